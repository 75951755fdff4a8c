// What the live page knows about the JSON of /status and /trace.

const UPSTREAM = "guestbook"; // the upstream whose servers are drawn; the other one leads to the admin pages
const NOBODY = { requests: 0, errors: 0, requests_per_second: 0, p50_us: 0, p99_us: 0 };

// What a meter's card shows: a rate per second and up to three durations (µs) or texts. A meter's latencies are over the
// last minute; 0 means that nothing was counted in it.
function tier(meter, more) {
  return { rate: meter.requests_per_second, durations: { p50: meter.p50_us || null, p99: meter.p99_us || null }, more };
}

function splitterTier({ primary, replicas, servers, vacancy, held }) {
  const reads = servers.length > 1 ? replicas : primary;
  return {
    rate: primary.requests_per_second + replicas.requests_per_second,
    durations: { "read p50": reads.p50_us || null, "read p99": reads.p99_us || null, "write p50": primary.p50_us || null },
    more: vacancy || held ? { "no primary": `${held} wait` } : {},
  };
}

const letter = (index) => String.fromCharCode(65 + (index % 26));

// Roles may change while the page is open; replicas are numbered in the order of the config.
function backendName(server, all) {
  if (server.role !== "replica") return server.role;
  const replicas = all.filter((other) => other.role === "replica");
  return replicas.length === 1 ? "replica" : `replica ${replicas.indexOf(server) + 1}`;
}

function note(server) {
  if (server.admin !== "ready") return server.admin;
  if (server.role !== "fenced" && server.up === false) return "down";
  if (server.role !== "replica") return server.role === "primary" ? "writes" : "gets nothing";
  return server.lag_ms == null ? "reads" : `reads, ${server.lag_ms} ms behind`;
}

export function readStatus(json) {
  const data = json.workers.filter((worker) => worker.role === "data");
  const upstream = json.upstreams.find((candidate) => candidate.name === UPSTREAM) ?? { servers: [], meter: NOBODY };
  const splitter = json.splitters[0];
  const backends = (splitter?.servers ?? []).map((server, index, all) => ({
    index, address: server.address, name: backendName(server, all), up: server.up !== false, note: note(server),
  }));
  const app = json.apps[0] ?? { meter: NOBODY, active: 0 };
  const minutes = Math.floor(json.uptime_seconds / 60);
  const driver = data[0]?.driver ?? "";
  return {
    startedAt: json.started_unix_ms,
    facts: `0ne-Server ${json.version}, process ${json.pid}, ${json.phase}, up ${minutes ? `${minutes} min` : `${Math.floor(json.uptime_seconds)} s`}: ` +
      `${data.length} data worker${data.length === 1 ? "" : "s"} on ${driver}, ${json.app_workers.length} application worker${json.app_workers.length === 1 ? "" : "s"}.`,
    driver,
    dataWorkers: Math.max(1, data.length),
    appWorkers: Math.max(1, json.app_workers.length),
    connections: json.http.connections,
    sqlClients: splitter?.clients ?? 0,
    servers: upstream.servers.map((server, index) => ({
      index, name: letter(index), address: server.address, up: server.up, active: server.active,
    })),
    backends,
    tiers: {
      front: tier(json.http.meter, { "5xx": `${json.http.responses[5]}` }),
      balance: tier(upstream.meter, { retries: `${upstream.servers.reduce((sum, server) => sum + server.retries, 0)}` }),
      app: tier(app.meter, { "under way": `${app.active}` }),
      split: splitter ? splitterTier(splitter) : null,
    },
  };
}

// Joins the events of one request: the public side, the application's side, its statements.
export class Journeys {
  #open = new Map(); // request id → { outer, inner, statements, polls }
  next = 0;

  // Takes an answer of /trace; returns the requests that are complete, oldest first. `wanted`: false drops them.
  add(trace, wanted, status) {
    this.next = trace.last;
    if (!wanted) return [];
    for (const event of trace.events) {
      if (event.request_id == null) continue;
      const open = this.#open.get(event.request_id) ?? { statements: [], polls: 0 };
      if (event.kind === "statement") {
        const backend = status.backends.find((candidate) => candidate.address === event.server)?.index;
        const write = event.role === "primary";
        open.statements.push({ backend: backend ?? (write ? 0 : 1), write, us: event.duration_us });
      } else if (event.served_by === "app") open.inner = event;
      else open.outer = event;
      this.#open.set(event.request_id, open);
    }
    const finished = [];
    for (const [id, open] of this.#open) {
      // The two sides may lie with two workers, and so come in two answers.
      const complete = open.outer && (open.outer.served_by !== "upstream" || open.inner);
      if (!complete && open.polls++ < 2) continue;
      this.#open.delete(id);
      if (open.outer) finished.push(this.#journey(id, open, status));
    }
    return finished;
  }

  #journey(id, { outer, inner, statements }, status) {
    const server = outer.served_by === "upstream" ? status.servers.find((candidate) => candidate.address === outer.server) : null;
    return {
      id, statements,
      line: outer.line, status: outer.status, us: outer.duration_us, worker: outer.data_worker,
      files: outer.served_by === "files",
      server: server?.index ?? null,
      appWorker: inner?.app_worker ?? null,
    };
  }
}
