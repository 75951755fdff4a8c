// The picture on the live page: nodes in tiers, edges between them, and a dot for each request that travels.
//
// It knows nothing about the server's JSON: `setShape` takes tiers of nodes, `travel` takes the keys of nodes.

const SVG = "http://www.w3.org/2000/svg";
const NODE_HEIGHT = 46;
const DOTS_MAX = 90;
const HOP_MS = 260;
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

function svg(name, attributes = {}, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export class Diagram {
  #root;
  #tiers = [];
  #links = [];
  #nodes = new Map(); // key → { group, x, y, width, sub, hotUntil }
  #edges = new Map(); // "from>to" → path element
  #dots = [];
  #upright = null;
  #running = false;

  constructor(root) {
    this.#root = root;
    new ResizeObserver(() => this.#draw()).observe(root.parentElement);
  }

  // tiers: [{ name, inside, nodes: [{ key, label, sub, down }] }], in the order a request takes.
  // links: [[from, to]]. Redraws only when the shape changed; texts and states are updated in place.
  setShape(tiers, links) {
    const shape = JSON.stringify([tiers.map((tier) => [tier.name, tier.nodes.map((node) => [node.key, node.label])]), links]);
    this.#tiers = tiers;
    this.#links = links;
    if (shape !== this.shape) {
      this.shape = shape;
      this.#upright = null;
      this.#draw();
    }
    for (const node of tiers.flatMap((tier) => tier.nodes)) {
      const drawn = this.#nodes.get(node.key);
      drawn.sub.textContent = node.sub;
      drawn.group.classList.toggle("down", Boolean(node.down));
    }
  }

  // Sends a dot along `keys` and back, after `delay` ms. `kind`: a class of style.css.
  travel(keys, kind, delay) {
    if (this.#dots.length >= DOTS_MAX || document.hidden) return;
    const hops = [];
    for (let i = 1; i < keys.length; i++) {
      const edge = this.#edges.get(`${keys[i - 1]}>${keys[i]}`);
      if (edge) hops.push({ edge, length: edge.getTotalLength(), to: keys[i] });
    }
    if (!hops.length) return;
    this.#dots.push({ hops, kind, start: performance.now() + delay, shape: this.shape, upright: this.#upright, touched: -1 });
    if (!this.#running) {
      this.#running = true;
      requestAnimationFrame((now) => this.#step(now));
    }
  }

  #step(now) {
    this.#dots = this.#dots.filter((dot) => this.#move(dot, now));
    for (const node of this.#nodes.values()) node.group.classList.toggle("hot", node.hotUntil > now);
    for (const edge of this.#edges.values()) edge.classList.toggle("hot", (edge.hotUntil ?? 0) > now);
    const warm = [...this.#nodes.values()].some((node) => node.hotUntil > now);
    this.#running = this.#dots.length > 0 || warm;
    if (this.#running) requestAnimationFrame((later) => this.#step(later));
  }

  // False when the dot has arrived, or when the picture it was made for is gone.
  #move(dot, now) {
    const progress = (now - dot.start) / HOP_MS;
    const out = dot.hops.length;
    const gone = dot.shape !== this.shape || dot.upright !== this.#upright;
    if (gone || progress >= 2 * out) {
      dot.circle?.remove();
      return false;
    }
    if (progress < 0) return true;
    const back = progress >= out;
    const along = back ? 2 * out - progress : progress;
    const index = Math.min(out - 1, Math.floor(along));
    const hop = dot.hops[index];
    if (!back && dot.touched < index) {
      dot.touched = index;
      hop.edge.hotUntil = now + 2 * HOP_MS;
      this.#nodes.get(hop.to).hotUntil = now + 2.5 * HOP_MS;
    }
    if (reducedMotion.matches) return true;
    if (!dot.circle) {
      dot.circle = svg("circle", { r: 6, class: `dot ${dot.kind}` });
      this.#root.append(dot.circle);
    }
    const point = hop.edge.getPointAtLength((along - index) * hop.length);
    dot.circle.setAttribute("cx", point.x);
    dot.circle.setAttribute("cy", point.y);
    return true;
  }

  #draw() {
    const upright = this.#root.parentElement.clientWidth < 720;
    if (upright === this.#upright || !this.#tiers.length) return;
    this.#upright = upright;
    this.#nodes.clear();
    this.#edges.clear();
    this.#root.replaceChildren();
    const size = upright ? this.#placeInRows() : this.#placeInColumns();
    this.#root.setAttribute("viewBox", `0 0 ${size.width} ${size.height}`);
    const edges = svg("g");
    for (const [from, to] of this.#links) edges.append(this.#edge(from, to));
    this.#root.prepend(edges);
  }

  #placeInColumns() {
    const width = 1120;
    const rows = Math.max(...this.#tiers.map((tier) => tier.nodes.length));
    const height = 74 + Math.max(3, rows) * 68;
    const step = (width - 2 * 88) / (this.#tiers.length - 1);
    this.#frame((first, last) => ({ x: 88 + first * step - 84, y: 8, width: (last - first) * step + 168, height: height - 16 }));
    this.#tiers.forEach((tier, column) => {
      const x = 88 + column * step;
      this.#root.append(svg("text", { x, y: 34, class: "tier-name", "text-anchor": "middle" }, tier.name));
      tier.nodes.forEach((node, row) => {
        const y = 40 + ((height - 54) * (row + 0.5)) / tier.nodes.length;
        this.#node(node, x, y, 132);
      });
    });
    return { width, height };
  }

  #placeInRows() {
    const width = 380;
    const step = 100;
    const height = this.#tiers.length * step + 4;
    this.#frame((first, last) => ({ x: 4, y: first * step + 4, width: width - 8, height: (last - first + 1) * step - 6 }));
    this.#tiers.forEach((tier, row) => {
      this.#root.append(svg("text", { x: 16, y: row * step + 24, class: "tier-name" }, tier.name));
      const room = (width - 20) / tier.nodes.length;
      tier.nodes.forEach((node, column) => {
        this.#node(node, 10 + room * (column + 0.5), row * step + 60, Math.min(132, room - 8));
      });
    });
    return { width, height };
  }

  // Around the tiers that live inside the process.
  #frame(place) {
    const inside = this.#tiers.map((tier, index) => (tier.inside ? index : -1)).filter((index) => index >= 0);
    if (inside.length) {
      this.#root.append(svg("rect", { ...place(inside[0], inside.at(-1)), rx: 16, class: "process-frame" }));
    }
  }

  #node(node, x, y, width) {
    const group = svg("g", { class: "node" });
    group.append(svg("rect", { x: x - width / 2, y: y - NODE_HEIGHT / 2, width, height: NODE_HEIGHT, rx: 10 }));
    group.append(svg("text", { x, y: y - 3, "text-anchor": "middle" }, node.label));
    const sub = svg("text", { x, y: y + 15, class: "sub", "text-anchor": "middle" }, node.sub);
    group.append(sub);
    this.#root.append(group);
    this.#nodes.set(node.key, { group, x, y, width, sub, hotUntil: 0 });
  }

  #edge(from, to) {
    const a = this.#nodes.get(from);
    const b = this.#nodes.get(to);
    const horizontal = !this.#upright;
    const [x1, y1] = horizontal ? [a.x + a.width / 2, a.y] : [a.x, a.y + NODE_HEIGHT / 2];
    const [x2, y2] = horizontal ? [b.x - b.width / 2, b.y] : [b.x, b.y - NODE_HEIGHT / 2];
    const [mx, my] = [(x1 + x2) / 2, (y1 + y2) / 2];
    const d = horizontal ? `M${x1} ${y1} C${mx} ${y1} ${mx} ${y2} ${x2} ${y2}` : `M${x1} ${y1} C${x1} ${my} ${x2} ${my} ${x2} ${y2}`;
    const edge = svg("path", { d, class: "edge" });
    this.#edges.set(`${from}>${to}`, edge);
    return edge;
  }
}
