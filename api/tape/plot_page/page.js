// The page: reads what it holds, makes the charts, and keeps them, the notes and the address at one view.
"use strict";

const SLOW_MS = 150; // after the last change of the view, for what looks at every request in it
const SPAN_MIN = 100; // ns

class Page {
  constructor(model) {
    this.model = model;
    this.view = {from: model.first, to: model.last};
    this.disk = model.disks[0];
    this.colours = readColours(model);
    this.width = this.widthNow();
    this.later = 0;
    this.frame = 0;
    const make = (id, chart) => this.listen(document.getElementById(id), chart(this, document.getElementById(id)));
    this.lanes = make("lanes", lanesChart);
    this.latency = make("latency", latencyChart);
    this.offsets = make("offsets", offsetsChart);
    this.distribution = make("distribution", distributionChart);
  }

  widthNow() { return Math.max(320, document.documentElement.clientWidth - 40); }

  setView(from, to) {
    const {first, last} = this.model, span = Math.min(Math.max(to - from, SPAN_MIN), last - first);
    const start = Math.min(Math.max(from + (to - from - span) / 2, first), last - span);
    this.view = {from: start, to: start + span};
    this.schedule();
  }

  showAll() { this.setView(this.model.first, this.model.last); }

  zoom(factor, around = (this.view.from + this.view.to) / 2) {
    this.setView(around - (around - this.view.from) * factor, around + (this.view.to - around) * factor);
  }

  move(share) {
    const span = this.view.to - this.view.from, {first, last} = this.model;
    const from = Math.min(Math.max(this.view.from + share * span, first), last - span);
    this.setView(from, from + span);
  }

  schedule() {
    document.body.dataset.settled = "no";
    if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); });
  }

  draw() {
    for (const chart of [this.lanes, this.latency, this.offsets]) chart.update();
    this.say();
    hideTip();
    clearTimeout(this.later);
    this.later = setTimeout(() => this.drawDistribution(), SLOW_MS);
  }

  drawDistribution() {
    const {model, view} = this;
    const byKind = new Map(model.kinds.filter((kind) => model.shown[kind])
      .map((kind) => [kind, latenciesBetween(model, view.from, view.to, kind)]));
    this.distribution.update(byKind);
    fillPercentiles(model, byKind);
    this.fitDistribution();
    const whole = view.from === model.first && view.to === model.last;
    note("distribution-note", "", `${whole ? "All requests that completed" : "Those submitted in view that completed"}: ` +
      "which share of them took less than so long. Not aggregated; the table is exact.");
    try { history.replaceState(null, "", whole ? "#" : `#view=${Math.round(view.from)},${Math.round(view.to)}`); } catch { /* not here */ }
    document.body.dataset.settled = "yes";
  }

  say() {
    const {model, view} = this, left = model.lanes.length - model.drawn.length;
    const leftOut = model.count - model.drawn.reduce((sum, lane) => sum + lane.rows.length, 0);
    const span = view.to - view.from, unit = timeUnit(view.to), step = 10 ** Math.floor(Math.log10(span / 500));
    document.getElementById("range").textContent =
      `${momentOf(view.from, step, unit)} to ${momentOf(view.to, step, unit)}, ${duration(span)}`;
    const rows = `${grouped(this.inView)} of ${grouped(model.count)} requests in view`;
    const {lines, strips} = this.checkpoints;
    const marks = strips ? " Checkpoints are counted into the strip above a lane where lines would stand too close." : "";
    const lanes = left ? ` ${grouped(left)} lanes with fewer requests, ${grouped(leftOut)} in all, are not drawn here.` : "";
    note("lanes-note", this.lanesSingle ? "Every request" : "Aggregated", (this.lanesSingle
      ? `${rows}, each drawn: solid in the kernel, pale until it was released.`
      : `${rows}; heights are how many of a lane were in flight, on average over each pixel column. ` +
        `Zoom in until at most ${grouped(SINGLE_MAX)} are in view to see each.`) + marks + lanes);
    note("latency-note", this.latencySingle ? "Every request" : "Aggregated", this.latencySingle
      ? `${grouped(this.submittedInView)} requests submitted in view, a mark each.`
      : `${grouped(this.submittedInView)} requests submitted in view; percentiles over each ${BUCKET} pixel columns.`);
    note("offsets-note", this.offsetsSingle ? "Every request" : "Aggregated", this.offsetsSingle
      ? `${grouped(this.offsetsInView)} requests on this disk submitted in view, from submission to completion. Without fsync.`
      : `${grouped(this.offsetsInView)} requests on this disk submitted in view; a cell of ${CELL} × ${CELL} pixels is stronger ` +
        "the more begin in it (logarithmic), in the colour of the kind that has most. Without fsync.");
    key("latency-key", this.latencySingle ? []
      : [["p50", "p50"], ["p99", "p99"], ["max", "slowest"]]);
    Object.assign(document.body.dataset, {
      lanes: this.lanesSingle ? "single" : "aggregated", latency: this.latencySingle ? "single" : "aggregated",
      offsets: this.offsetsSingle ? "single" : "aggregated", requests: this.inView, checkpoints: lines + strips,
    });
  }

  restyle() {
    this.colours = readColours(this.model);
    for (const {u} of [this.lanes, this.latency, this.offsets, this.distribution]) u.redraw(false, true);
  }

  resize() {
    this.width = this.widthNow();
    for (const {u} of [this.lanes, this.latency, this.offsets]) u.setSize({width: this.width, height: u.height});
    this.schedule();
  }

  // The table takes what it needs, the chart what is left.
  fitDistribution() {
    const {u} = this.distribution, width = document.getElementById("distribution").clientWidth;
    if (u.width !== width) u.setSize({width, height: u.height});
  }

  listen(element, chart) {
    const {over} = chart.u;
    over.addEventListener("mousemove", (event) => {
      const box = over.getBoundingClientRect();
      showTip(event, chart.tip(event.clientX - box.left, event.clientY - box.top));
    });
    over.addEventListener("mouseleave", hideTip);
    if (element.id === "distribution") return chart;
    over.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.shiftKey) return;
      event.preventDefault();
      const by = (event.deltaY || event.deltaX) * (event.deltaMode ? 33 : 1);
      if (event.ctrlKey) this.zoom(Math.exp(by * 0.002), chart.u.posToVal(event.clientX - over.getBoundingClientRect().left, "x"));
      else this.move(by * 0.001);
    }, {passive: false});
    return chart;
  }
}

function fillPercentiles(model, byKind) {
  const shares = [["p50", 0.5], ["p90", 0.9], ["p99", 0.99], ["p99.9", 0.999], ["p99.99", 0.9999], ["slowest", 1]];
  const rows = [...byKind].map(([kind, sorted]) => cells("td", [
    [swatch(model.facts.kinds[kind]), model.facts.kinds[kind]], grouped(sorted.length),
    ...shares.map(([, share]) => duration(percentile(sorted, share))),
  ]));
  document.getElementById("percentiles").replaceChildren(cells("th", ["", "requests", ...shares.map(([name]) => name)]), ...rows);
}

// ---- the start

function describe(facts, model) {
  document.title = `${facts.tape} · ringtape`;
  document.getElementById("tape").textContent = facts.tape;
  const some = (count, word) => `${grouped(count)} ${word}${count === 1 ? "" : "s"}`;
  document.getElementById("what").textContent = [
    facts.program + (facts.replay_of ? `, a replay of ${facts.replay_of}` : ""), facts.started,
    some(facts.workers, "worker"), some(facts.disks.length, "disk"),
    (facts.whole ? "" : "a part of the run: ") + some(model.count, "request"), `ended: ${facts.ended}`,
  ].join(" · ");
  trouble(facts.damage && `The tape is damaged. This is what comes before: ${facts.damage}`);
}

function addControls(page) {
  const {model} = page, on = (id, action) => document.getElementById(id).addEventListener("click", action);
  on("zoom-in", () => page.zoom(0.5));
  on("zoom-out", () => page.zoom(2));
  on("earlier", () => page.move(-0.3));
  on("later", () => page.move(0.3));
  on("all", () => page.showAll());
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
    const action = {w: () => page.zoom(0.7), s: () => page.zoom(1 / 0.7), a: () => page.move(-0.2), d: () => page.move(0.2),
      0: () => page.showAll()}[event.key];
    if (action) action();
  });
  const select = document.getElementById("disk");
  select.append(...model.disks.map((disk) => new Option(model.facts.disks[disk], disk)));
  select.addEventListener("change", () => { page.disk = Number(select.value); page.schedule(); });
  document.getElementById("kinds").append(...model.kinds.map((kind) => {
    const label = document.createElement("label"), box = document.createElement("input");
    Object.assign(box, {type: "checkbox", checked: true});
    box.addEventListener("change", () => { model.shown[kind] = box.checked ? 1 : 0; page.schedule(); });
    label.append(box, swatch(model.facts.kinds[kind]), model.facts.kinds[kind]);
    return label;
  }));
  key("lanes-key", [["held", "completed, not yet released"], ["checkpoint", "checkpoint", true], ["failed", "failed"]]);
  addEventListener("resize", () => page.resize());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page.restyle());
  addEventListener("hashchange", () => followAddress(page));
}

function followAddress(page) {
  const found = /^#view=(\d+),(\d+)$/.exec(location.hash);
  if (found) page.setView(Number(found[1]), Number(found[2]));
  else page.showAll();
}

async function start() {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const model = makeModel(await readColumns(), facts);
  describe(facts, model);
  if (!model.count) {
    trouble(facts.damage ? document.getElementById("trouble").textContent : "There are no requests on this tape.");
    document.body.dataset.settled = "yes";
    return;
  }
  document.querySelector("main").hidden = false;
  const page = new Page(model);
  addControls(page);
  followAddress(page);
  window.ringtapePlot = page;
}

start().catch((error) => {
  trouble(`This page cannot be drawn here: ${error.message}`);
  throw error;
});
