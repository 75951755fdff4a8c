// The live page: asks /status and /trace once a second, and draws what they say.
import { showApplications } from "./applications.js";
import { Diagram } from "./diagram.js";
import { Journeys, readStatus } from "./model.js";

const POLL_MS = 1000;
const SPARK_POINTS = 60;
const ROWS = 14;
const BURST = 60;
const STEADY_MS = 120;

const $ = (id) => document.getElementById(id);
const diagram = new Diagram($("diagram"));
const journeys = new Journeys();
let after = 0;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  Object.assign(made, attributes);
  made.append(...children);
  return made;
}

function duration(us) {
  if (us == null || Number.isNaN(us)) return "–";
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${(us / 1000).toFixed(us < 1e4 ? 1 : 0)} ms`;
  return `${(us / 1e6).toFixed(1)} s`;
}

function count(number) {
  return number < 10 && number % 1 ? number.toFixed(1) : Math.round(number).toLocaleString("en");
}

/* Meters: one card per tier, with its rate over the last minute. */

class Meter {
  #rates = [];

  constructor(title, unit) {
    this.rate = element("span", { textContent: "–" });
    this.values = element("dl");
    this.graph = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.graph.setAttribute("viewBox", `0 0 ${SPARK_POINTS - 1} 40`);
    this.graph.setAttribute("preserveAspectRatio", "none");
    this.graph.setAttribute("aria-hidden", "true");
    this.graph.innerHTML = '<path class="spark-fill"></path><path class="spark"></path>';
    const rate = element("p", { className: "rate" }, this.rate, " ", element("small", { textContent: unit }));
    this.card = element("div", { className: "card meter" }, element("h2", { textContent: title }), rate, this.graph, this.values);
  }

  // rate: per second; values: { name: text }.
  show(rate, values) {
    this.#rates.push(rate);
    if (this.#rates.length > SPARK_POINTS) this.#rates.shift();
    this.rate.textContent = count(rate);
    const top = Math.max(5, ...this.#rates);
    const first = SPARK_POINTS - this.#rates.length;
    const points = this.#rates.map((value, i) => `${first + i} ${39 - (37 * value) / top}`);
    this.graph.children[0].setAttribute("d", `M${first} 40 L${points.join(" L")} V40 Z`);
    this.graph.children[1].setAttribute("d", `M${points.join(" L")}`);
    this.values.replaceChildren(
      ...Object.entries(values).map(([name, text]) =>
        element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: text }))),
    );
  }
}

const meters = {
  front: new Meter("Data workers", "requests/s"),
  balance: new Meter("Load balancer", "requests/s"),
  app: new Meter("Application", "requests/s"),
  split: new Meter("MySQL splitter", "statements/s"),
};

/* The picture. */

// Up to four nodes stand for many workers: cores 0–7, 8–15 and so on.
function workerNodes(prefix, name, total) {
  const shown = Math.min(total, 4);
  const nodes = [];
  for (let i = 0; i < shown; i++) {
    const [from, to] = [Math.floor((i * total) / shown), Math.floor(((i + 1) * total) / shown) - 1];
    nodes.push({ key: `${prefix}${i}`, label: from === to ? `${name} ${from}` : `${name} ${from}–${to}`, sub: "" });
  }
  return nodes;
}

const workerKey = (prefix, index, total) => `${prefix}${Math.floor((index * Math.min(total, 4)) / total)}`;

function shape(status) {
  const workers = workerNodes("w", "worker", status.dataWorkers);
  const apps = workerNodes("a", "app", status.appWorkers);
  workers.forEach((node) => (node.sub = status.driver));
  apps.forEach((node) => (node.sub = "axum"));
  const servers = status.servers.map((server) => ({
    key: `s${server.index}`, label: `server ${server.name}`, down: !server.up,
    sub: server.up ? `${server.active} under way` : "down",
  }));
  const tiers = [
    { name: "", nodes: [{ key: "client", label: "clients", sub: `${status.connections} open` }] },
    { name: "data workers", inside: true, nodes: workers },
    { name: "files · balancer", inside: true, nodes: [{ key: "files", label: "files", sub: "cache, sendfile" }, ...servers] },
    { name: "application", inside: true, nodes: apps },
  ];
  const keys = (nodes) => nodes.map((node) => node.key);
  const links = [];
  const join = (from, to) => from.forEach((a) => to.forEach((b) => links.push([a, b])));
  join(["client"], keys(workers));
  join(keys(workers), ["files", ...keys(servers)]);
  join(keys(servers), keys(apps));
  if (status.backends.length) {
    const backends = status.backends.map((backend) => ({
      key: `d${backend.index}`, label: backend.name, down: !backend.up,
      sub: backend.note,
    }));
    tiers.push({ name: "splitter", inside: true, nodes: [{ key: "split", label: "splitter", sub: `${status.sqlClients} sessions` }] });
    tiers.push({ name: "databases", nodes: backends });
    join(keys(apps), ["split"]);
    join(["split"], keys(backends));
  }
  return { tiers, links };
}

// The keys of the nodes a request passed, and the class of its dot.
function route(journey, status) {
  const keys = ["client", workerKey("w", journey.worker, status.dataWorkers)];
  if (journey.files) keys.push("files");
  if (journey.server != null) keys.push(`s${journey.server}`);
  if (journey.appWorker != null) keys.push(workerKey("a", journey.appWorker, status.appWorkers));
  let kind = "";
  if (journey.statements.length) {
    const write = journey.statements.find((statement) => statement.write);
    kind = write ? "write" : "read";
    keys.push("split", `d${(write ?? journey.statements[0]).backend}`);
  }
  return { keys, kind: journey.status >= 500 ? "error" : kind };
}

/* The table. */

function row(journey, status) {
  const steps = [`worker ${journey.worker}`];
  if (journey.files) steps.push("file");
  if (journey.server != null) steps.push(`server ${status.servers.find((server) => server.index === journey.server)?.name ?? journey.server}`);
  if (journey.appWorker != null) steps.push(`app worker ${journey.appWorker}`);
  const statements = journey.statements.map((statement) => {
    const name = status.backends[statement.backend]?.name ?? `server ${statement.backend}`;
    return element("span", {
      className: statement.write ? "tag write" : "tag read",
      textContent: `${name} ${duration(statement.us)}`,
    });
  });
  const cells = [
    element("td", { className: "line", textContent: journey.line, title: journey.id }),
    element("td", { className: "wide path", textContent: steps.join(" › ") }),
    element("td", { className: "wide sql" }, ...statements.slice(0, 4).flatMap((tag) => [tag, " "])),
    element("td", { className: journey.status >= 400 ? "status-bad" : "", textContent: journey.status || "gone" }),
    element("td", { className: "number", textContent: duration(journey.us) }),
  ];
  return element("tr", {}, ...cells);
}

let rows = [];

function show(finished, status) {
  const batch = finished.filter((journey) => !/ \/(status|trace)\b/.test(journey.line));
  // A second can bring thousands: an even sample of them travels, spread over the second they took.
  const sample = Math.ceil(batch.length / 45);
  batch.filter((_, i) => i % sample === 0).forEach((journey, i, all) => {
    const { keys, kind } = route(journey, status);
    diagram.travel(keys, kind, (i / all.length) * POLL_MS);
  });
  if (!batch.length) return;
  rows = [...batch.slice(-ROWS).reverse().map((journey) => row(journey, status)), ...rows].slice(0, ROWS);
  $("recent").replaceChildren(...rows);
}

/* Once a second. */

async function json(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(5000) });
  if (!response.ok) throw new Error(`${path} answered ${response.status}`);
  return response.json();
}

let previous = null;

async function poll() {
  const [statusJson, trace] = await Promise.all([json("/status"), json(`/trace?after=${after}`)]);
  const status = readStatus(statusJson);
  // A new process counts from the beginning.
  if (previous && status.startedAt !== previous.startedAt) {
    after = 0;
    previous = null;
    return;
  }
  $("facts").textContent = status.facts;
  showApplications($("applications"), $("apps"), statusJson);
  document.body.classList.toggle("no-database", !status.backends.length);
  const { tiers, links } = shape(status);
  diagram.setShape(tiers, links);
  if (!meters.front.card.isConnected) {
    const cards = [meters.front, meters.balance, meters.app, ...(status.backends.length ? [meters.split] : [])];
    $("meters").replaceChildren(...cards.map((meter) => meter.card));
  }
  for (const [name, meter] of Object.entries(meters)) {
    const tier = status.tiers[name];
    if (!tier) continue;
    const durations = Object.entries(tier.durations).map(([key, us]) => [key, duration(us)]);
    meter.show(tier.rate, { ...Object.fromEntries(durations), ...tier.more });
  }
  // What happened before this page was open is not news.
  const news = journeys.add(trace, previous !== null, status);
  after = journeys.next;
  if (previous) show(news, status);
  previous = status;
}

async function pollForever() {
  for (;;) {
    const started = performance.now();
    try {
      if (!document.hidden) await poll();
      $("banner").hidden = true;
    } catch (error) {
      $("banner").textContent = `The process does not answer: ${error.message}. Trying again every second.`;
      $("banner").hidden = false;
    }
    await new Promise((wake) => setTimeout(wake, Math.max(100, POLL_MS - (performance.now() - started))));
  }
}

/* Traffic from this browser. */

const READS = ["/guestbook/api/entries", "/guestbook/", "/guestbook/hello", "/guestbook/api/entries", "/style.css"];
const read = () => fetch(READS[Math.floor(Math.random() * READS.length)], { cache: "no-store" }).then((response) => response.arrayBuffer());

async function whileDisabled(button, work) {
  button.disabled = true;
  await work().catch(() => {});
  button.disabled = false;
}

$("burst").addEventListener("click", (event) =>
  whileDisabled(event.currentTarget, () => Promise.allSettled(Array.from({ length: BURST }, read))));

$("write").addEventListener("click", (event) =>
  whileDisabled(event.currentTarget, () => fetch("/guestbook/", {
    method: "POST",
    headers: { Accept: "application/json" },
    body: new URLSearchParams({ name: "Live page", message: `Somebody pressed “Sign once” at ${new Date().toLocaleTimeString()}.` }),
  })));

let steady = null;
$("steady").addEventListener("click", (event) => {
  const start = steady === null;
  clearInterval(steady);
  steady = start ? setInterval(() => document.hidden || read().catch(() => {}), STEADY_MS) : null;
  event.currentTarget.setAttribute("aria-pressed", String(start));
});

pollForever();
