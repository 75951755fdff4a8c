// The live page's table of applications: what runs inside the process, and the programs that it has started.

const MIB = 1024 * 1024;

function cell(text, className = "") {
  const made = document.createElement("td");
  Object.assign(made, { className, textContent: text });
  return made;
}

function row(className, ...cells) {
  const made = document.createElement("tr");
  made.className = className;
  made.append(...cells);
  return made;
}

function age(seconds) {
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

const number = (count) => count.toLocaleString("en");
const sum = (list, name) => list.reduce((total, one) => total + one[name], 0);

// Only what is not as it should be, in words.
function troubles(counts) {
  const told = Object.entries(counts).filter(([, count]) => count > 0);
  return told.map(([name, count]) => `${number(count)} ${name}`).join(", ");
}

// Runs on the workers of this process, which all its applications share.
function inProcess(app, workers) {
  const told = troubles({
    panics: sum(workers, "panics"), "worker restarts": sum(workers, "restarts"), refused: app.refused, failed: app.failed,
  });
  return row(
    "app",
    cell(app.name, "line"), cell("in process", "wide path"), cell(told || "well", told ? "status-bad" : ""),
    cell(number(app.meter.requests), "number"), cell(number(app.active), "number"),
    cell(number(sum(workers, "queue_depth")), "number"), cell("", "wide number"), cell("", "wide number"),
  );
}

function supervised(app) {
  const parts = [`${app.state}, ${app.ready} of ${app.wanted}`];
  if (app.restarts) parts.push(`${number(app.restarts)} restarts`);
  if (app.state !== "ready" && app.last_exit) parts.push(app.last_exit);
  const isWell = app.state === "ready";
  return row(
    "app",
    cell(app.name, "line"), cell(app.kind === "php" ? "php-fpm" : "process", "wide path"),
    cell(parts.join(", "), isWell ? "" : "status-bad"),
    cell(number(sum(app.instances, "requests")), "number"), cell(number(sum(app.instances, "active")), "number"),
    cell(number(app.queued), "number"),
    cell(`${Math.round(sum(app.instances, "memory_bytes") / MIB)} MiB`, "wide number"), cell("", "wide number"),
  );
}

function instance(one) {
  return row(
    "instance",
    cell(`${one.instance}`, "line"), cell(one.pid ? `pid ${one.pid}` : "–", "wide path"),
    cell(one.leaving ? `${one.state} (${one.leaving})` : one.state),
    cell(number(one.requests), "number"), cell(number(one.active), "number"), cell("", "number"),
    cell(`${Math.round(one.memory_bytes / MIB)} MiB`, "wide number"), cell(age(one.age_seconds), "wide number"),
  );
}

// Fills the table's body from the JSON of /status; hides the section where there is nothing to show.
export function showApplications(section, body, status) {
  const rows = status.apps.map((app) => inProcess(app, status.app_workers));
  for (const app of status.processes) rows.push(supervised(app), ...app.instances.map(instance));
  section.hidden = rows.length === 0;
  body.replaceChildren(...rows);
}
