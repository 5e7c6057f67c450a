// A job in numbers: how far it is, how it goes on, and what there is to download.

import * as api from "./api.js";
import { el, fill } from "./dom.js";
import { shares } from "./marks.js";
import { bytes, count, duration, known, moment, percent, plural, score } from "./words.js";

/** How far a job is, `{done, whole}`; whole is null while nobody knows. */
export function extent(report) {
  return { done: (report.explained ?? 0) + (report.skipped ?? 0) + (report.failed ?? 0), whole: report.expected ?? null };
}

export function status(report) {
  return el("span", { class: `status is-${report.status.replaceAll(" ", "-")}` }, report.status);
}

/** Outcomes as one bar of what the job is expected to have. */
export function outcomes(report) {
  const { done, whole } = extent(report);
  const parts = [["explained", report.explained], ["skipped", report.skipped], ["failed", report.failed]];
  return shares(parts, Math.max(whole ?? 0, report.admitted ?? 0, done));
}

/** Fill a node with a job's numbers. */
export function progress(node, report, { lost = false, waits = null } = {}) {
  const { done, whole } = extent(report);
  const isRunning = report.status === "running";
  return fill(
    node,
    el(
      "p",
      { class: "far" },
      status(report),
      el("b", {}, known(whole) ? `${count(done)} of ${count(whole)}` : count(done)),
      known(whole) && whole > 0 && isRunning && el("span", {}, percent(Math.floor((1000 * done) / whole) / 1000)),
      isRunning && known(report.eta_s) && el("span", {}, `about ${duration(report.eta_s)} left`),
      waits && el("span", { class: "problem" }, waits),
      lost && el("span", { class: "problem" }, "connection lost, trying again"),
      known(report.at_ms) && el("span", { class: "quiet" }, `as of ${moment(report.at_ms)}`),
    ),
    outcomes(report),
    report.explained > 0 && shares([["confirmed", report.confirmed], ["partial", report.partial], ["contradicted", report.contradicted], ["unverifiable", report.explained - report.confirmed - report.partial - report.contradicted]], report.explained),
    el(
      "dl",
      { class: "tiles" },
      tile("mean quality", score(report.averages?.quality)),
      tile("mean accuracy", score(report.averages?.accuracy)),
      tile("safety concerns", count(report.insights?.safety_concerns_identified)),
      tile("to look at", count(report.flagged)),
      tile("reviewed", report.reviewed > 0 ? `${count(report.reviewed)}, ${count(report.agreed)} agree` : "0"),
      tile("time", duration(report.wall_s)),
    ),
    (report.notes ?? []).length > 0 && el("ul", { class: "doubts" }, report.notes.map((note) => el("li", {}, note))),
  );
}

function tile(name, value) {
  return el("div", {}, el("dt", {}, name), el("dd", {}, value));
}

/** A job's files to read or keep; null while there are none. */
export function files(job, found) {
  if (found.length === 0) return null;
  return el("details", { class: "files" }, el("summary", {}, plural(found.length, "file")), el("ul", {}, found.map(({ name, size }) => el("li", {}, el("a", { href: api.file(job, name) }, name), el("span", { class: "quiet" }, ` ${bytes(size)}`)))));
}
