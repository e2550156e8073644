// A small layered layout for the mock server. The real one is in Rust.

const W = 220;
const H = 56;
const GAP_X = 32;
const GAP_Y = 56;

/** Lays out tasks and open groups: `items` are {id, needs, members} in order. Groups with members are frames. */
export function layout(items) {
  const byId = new Map(items.map((item) => [item.id, item]));
  const rank = new Map();
  const rankOf = (id) => {
    if (!rank.has(id)) {
      rank.set(id, 0);
      const needs = byId.get(id).needs.filter((need) => byId.has(need));
      rank.set(id, needs.length === 0 ? 0 : 1 + Math.max(...needs.map(rankOf)));
    }
    return rank.get(id);
  };
  for (const item of items) rankOf(item.id);
  const ranks = [];
  for (const item of items) {
    const at = rank.get(item.id);
    ranks[at] ??= [];
    ranks[at].push(item);
  }
  const size = (item) => {
    const count = item.members?.length ?? 0;
    if (count === 0) return { w: W, h: H };
    const columns = Math.min(4, count);
    return { w: columns * (W + 16) + 16, h: 28 + Math.ceil(count / columns) * (H + 16) };
  };
  const widths = ranks.map((row) => row.reduce((sum, item) => sum + size(item).w + GAP_X, -GAP_X));
  const width = Math.max(...widths);
  const nodes = [];
  const place = new Map();
  let y = 0;
  ranks.forEach((row, index) => {
    let x = (width - widths[index]) / 2;
    // Each task is placed near what it needs.
    const center = (item) => {
      const needs = item.needs.filter((need) => place.has(need));
      return needs.length === 0 ? 0 : needs.reduce((sum, need) => sum + place.get(need).x, 0) / needs.length;
    };
    const sorted = index === 0 ? row : [...row].sort((a, b) => center(a) - center(b));
    const height = Math.max(...row.map((item) => size(item).h));
    for (const item of sorted) {
      const box = { id: item.id, x, y: y + (height - size(item).h) / 2, ...size(item) };
      if (item.name) Object.assign(box, { name: item.name, members: item.of });
      place.set(item.id, box);
      nodes.push(box);
      (item.members ?? []).forEach((member, at) => {
        const columns = Math.min(4, item.members.length);
        nodes.push({ id: member, x: box.x + 16 + (at % columns) * (W + 16), y: box.y + 28 + Math.floor(at / columns) * (H + 16), w: W, h: H });
      });
      x += box.w + GAP_X;
    }
    y += height + GAP_Y;
  });
  const edges = [];
  for (const item of items) {
    for (const need of item.needs) {
      const from = place.get(need);
      const to = place.get(item.id);
      if (!from || !to) continue;
      const points = [[from.x + from.w / 2, from.y + from.h], [to.x + to.w / 2, to.y]];
      edges.push({ from: need, to: item.id, points });
    }
  }
  return { width, height: Math.max(0, y - GAP_Y), nodes, edges };
}
