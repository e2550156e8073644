// Writes pictures with few colors, such as those of pages, as PNG with a palette (https://www.w3.org/TR/png/).

import { crc32, deflateSync } from "node:zlib";

const MAX_COLORS = 256;
/** The square of the distance from which two colors are different ones rather than shades. */
const MIN_DISTANCE = 600;

function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const [length, checksum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  checksum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, checksum]);
}

const parts = (color) => [color >> 16, (color >> 8) & 255, color & 255];

/** Returns for each color the index of the nearest of the most frequent ones, and these. */
function palette(counts) {
  const frequent = [...counts].sort((a, b) => b[1] - a[1]).map(([color]) => color);
  const distance = (one, other) => parts(one).reduce((sum, part, index) => sum + (part - parts(other)[index]) ** 2, 0);
  // Rare colors that resemble none count before more shades of a frequent one.
  const chosen = [];
  for (const color of frequent) if (chosen.length < MAX_COLORS / 2 && chosen.every((other) => distance(color, other) > MIN_DISTANCE)) chosen.push(color);
  for (const color of frequent) if (chosen.length < MAX_COLORS && !chosen.includes(color)) chosen.push(color);
  const known = chosen.map(parts);
  const indexes = new Map();
  for (const color of counts.keys()) {
    const [red, green, blue] = parts(color);
    let [best, least] = [0, Infinity];
    known.forEach(([r, g, b], index) => {
      const far = (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2;
      if (far < least) [best, least] = [index, far];
    });
    indexes.set(color, best);
  }
  return { chosen, indexes };
}

/** Returns a picture from its pixels, four bytes each. */
export function smallPng(width, height, pixels) {
  const colors = new Uint32Array(width * height);
  const counts = new Map();
  for (let at = 0; at < colors.length; at += 1) {
    // The lowest bit of a color is not visible.
    colors[at] = ((pixels[at * 4] << 16) | (pixels[at * 4 + 1] << 8) | pixels[at * 4 + 2]) & 0xfefefe;
    counts.set(colors[at], (counts.get(colors[at]) ?? 0) + 1);
  }
  const { chosen, indexes } = palette(counts);
  const rows = Buffer.alloc(height * (width + 1));
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) rows[row * (width + 1) + 1 + column] = indexes.get(colors[row * width + column]);
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 3, 0, 0, 0], 8);
  const table = Buffer.from(chosen.flatMap(parts));
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), chunk("IHDR", header), chunk("PLTE", table), chunk("IDAT", deflateSync(rows, { level: 9, memLevel: 9 })), chunk("IEND", Buffer.alloc(0))]);
}
