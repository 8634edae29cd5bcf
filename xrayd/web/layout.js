// Places for the nodes of a graph: in layers from callers to callees. It depends on the names and
// the edges alone, so that nothing moves when traffic changes.

const GAP_X = 210;
const GAP_Y = 92;

// nodes: [{key}], edges: [{from, to}] by key -> Map of key to {x, y}; width and height with it.
export function layOut(nodes, edges) {
  const keys = nodes.map((node) => node.key).sort();
  const out = new Map(keys.map((key) => [key, []]));
  const into = new Map(keys.map((key) => [key, []]));
  for (const { from, to } of [...edges].sort((a, b) => (a.from + a.to < b.from + b.to ? -1 : 1))) {
    if (from === to || !out.has(from) || !out.has(to)) continue;
    out.get(from).push(to);
    into.get(to).push(from);
  }
  const layer = findLayers(keys, out, into);
  const layers = [];
  for (const key of keys) (layers[layer.get(key)] ||= []).push(key);
  const place = new Map();
  for (const one of layers) one.forEach((key, index) => place.set(key, index));
  for (let round = 0; round < 8; round += 1) {
    const order = round % 2 ? [...layers].reverse() : layers;
    for (const one of order) {
      const near = round % 2 ? out : into;
      const centre = new Map(one.map((key) => {
        const beside = near.get(key);
        return [key, beside.length ? beside.reduce((sum, other) => sum + place.get(other), 0) / beside.length : place.get(key)];
      }));
      one.sort((a, b) => centre.get(a) - centre.get(b) || (a < b ? -1 : 1));
      one.forEach((key, index) => place.set(key, index));
    }
  }
  // A layer of more nodes than can be seen at once goes over several columns.
  const tallest = Math.max(6, Math.ceil(Math.sqrt(keys.length * 1.2)));
  const at = new Map();
  let column = 0;
  let height = 0;
  const columns = layers.map((one) => Math.ceil(one.length / tallest));
  layers.forEach((one, index) => {
    const perColumn = Math.ceil(one.length / columns[index]);
    one.forEach((key, number) => {
      const row = number % perColumn;
      at.set(key, { x: (column + Math.floor(number / perColumn)) * GAP_X + 90, row, rows: Math.min(perColumn, one.length) });
    });
    column += columns[index];
    height = Math.max(height, perColumn * GAP_Y);
  });
  for (const spot of at.values()) spot.y = (height - spot.rows * GAP_Y) / 2 + (spot.row + 0.5) * GAP_Y;
  return { at, width: Math.max(1, column) * GAP_X - 30, height: Math.max(GAP_Y, height) };
}

// The longest way from an entry; edges that close a circle are left out.
function findLayers(keys, out, into) {
  const layer = new Map(keys.map((key) => [key, 0]));
  const seen = new Map();
  const order = [];
  const starts = [...keys.filter((key) => !into.get(key).length), ...keys];
  const back = new Set();
  for (const start of starts) {
    if (seen.has(start)) continue;
    const stack = [[start, 0]];
    seen.set(start, "open");
    while (stack.length) {
      const top = stack[stack.length - 1];
      const next = out.get(top[0])[top[1]];
      top[1] += 1;
      if (next === undefined) { seen.set(top[0], "done"); order.push(top[0]); stack.pop(); }
      else if (seen.get(next) === "open") back.add(`${top[0]}\n${next}`);
      else if (!seen.has(next)) { seen.set(next, "open"); stack.push([next, 0]); }
    }
  }
  for (const key of order.reverse()) {
    for (const next of out.get(key)) {
      if (!back.has(`${key}\n${next}`)) layer.set(next, Math.max(layer.get(next), layer.get(key) + 1));
    }
  }
  return layer;
}
