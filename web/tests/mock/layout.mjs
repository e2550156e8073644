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
  // A long edge has a bend in each rank that it crosses, which gets a place like a task. Large graphs have too many.
  const bend = (need, at) => `${need} in ${at}`;
  if (items.length <= 60) {
    for (const item of items) {
      for (const need of item.needs.filter((id) => byId.has(id))) {
        for (let at = rank.get(need) + 1; at < rank.get(item.id); at += 1) {
          const id = bend(need, at);
          if (!ranks[at].some((other) => other.id === id)) ranks[at].push({ id, isBend: true, needs: [at - 1 === rank.get(need) ? need : bend(need, at - 1)] });
        }
      }
    }
  }
  const size = (item) => {
    if (item.isBend) return { w: 8, h: H };
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
      if (!item.isBend) nodes.push(box);
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
      const bends = [];
      for (let at = rank.get(need) + 1; at < rank.get(item.id); at += 1) {
        const passed = place.get(bend(need, at));
        if (passed) bends.push([passed.x + 4, passed.y], [passed.x + 4, passed.y + passed.h]);
      }
      const points = [[from.x + from.w / 2, from.y + from.h], ...bends, [to.x + to.w / 2, to.y]];
      edges.push({ from: need, to: item.id, points });
    }
  }
  return { width, height: Math.max(0, y - GAP_Y), nodes, edges };
}
