// The charts, each a uPlot with its scales and axes, and what the pointer is over in each.
"use strict";

const AXIS = 130; // px, of the labels to the left: alike in all charts over time, so that their times stand in line
const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
const BUCKET = 3; // px, of latency percentiles
const CURVE_POINTS = 400;

function readColours(model) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue("--" + name).trim();
  const names = ["text", "quiet", "line", "grid", "band", "held", "checkpoint", "failed", "p50", "p99", "max"];
  const colours = Object.fromEntries(names.map((name) => [name, colour(name)]));
  colours.kinds = Object.fromEntries(Object.entries(model.facts.kinds).map(([kind, name]) => [kind, colour(name)]));
  return colours;
}

// What all charts over time share. `page` is told of a choice by dragging.
function overTime(page, height, more) {
  return {
    width: page.width, height, legend: {show: false}, padding: [6, 40, 0, 0],
    cursor: {
      sync: {key: "time", setSeries: false}, points: {show: false}, drag: {x: true, y: false, setScale: false},
      bind: {dblclick: () => () => { page.showAll(); return null; }},
    },
    select: {show: true},
    hooks: {
      setSelect: [(u) => {
        if (u.select.width < 3) return;
        const from = u.posToVal(u.select.left, "x"), to = u.posToVal(u.select.left + u.select.width, "x");
        u.setSelect({left: 0, width: 0, top: 0, height: 0}, false);
        page.setView(from, to);
      }],
      ...more.hooks,
    },
    series: [{}, ...more.series],
    scales: {
      x: {time: false, auto: false, range: asSet, min: page.view.from, max: page.view.to},
      y: {auto: false, range: asSet, min: 1, max: 2, ...more.y},
    },
    axes: [timeAxis(page), {...axis(page), size: AXIS, ...more.axis}],
  };
}

// A scale is what it was set to, not rounded up.
function asSet(u, min, max) { return [min, max]; }

function axis(page) {
  return {
    stroke: () => page.colours.quiet, font: FONT, grid: {stroke: () => page.colours.grid, width: 1},
    ticks: {stroke: () => page.colours.line, width: 1, size: 5},
  };
}

function timeAxis(page) {
  return {
    ...axis(page), size: 34, space: 110,
    values: (u, splits, _axis, _space, step) => {
      const unit = timeUnit(u.scales.x.max);
      return splits.map((time) => momentOf(time, step, unit));
    },
  };
}

// ---- lanes

function lanesChart(page, element) {
  const {model} = page, total = layOutLanes(model);
  const middles = [];
  let below = total;
  for (const lane of model.drawn) {
    middles.push(below - lane.height / 2);
    below -= lane.height;
  }
  const options = overTime(page, total + 6 + 34, {
    series: [{show: false}],
    y: {min: 0, max: total},
    axis: {
      splits: () => middles, values: () => model.drawn.map((lane) => laneName(model, lane)), grid: {show: false},
      ticks: {show: false}, gap: 8,
    },
    hooks: {
      drawClear: [(u) => paintBands(u, model, page.colours)],
      drawAxes: [(u) => paintLanes(u, model, page.view, page.colours, page.lanesSingle)],
    },
  });
  const u = new uPlot(options, [[page.view.from, page.view.to], [null, null]], element);
  return {
    u,
    update() {
      page.inView = countInView(model, page.view.from, page.view.to);
      page.lanesSingle = page.inView <= SINGLE_MAX;
      page.checkpoints = countCheckpoints(model, horizontal(u, page.view));
      setBoth(u, page.view, [[page.view.from, page.view.to], [null, null]], 0, total);
    },
    tip: (left, top) => tipOfLane(page, u, left, top),
  };
}

// As high as their requests ask for, within bounds; returns the sum.
function layOutLanes(model) {
  const many = model.drawn.length;
  const [low, high] = many <= 4 ? [44, 150] : many <= 12 ? [34, 90] : many <= 40 ? [24, 40] : [16, 20];
  for (const lane of model.drawn) lane.height = Math.min(high, Math.max(low, lane.slots * 9)) + LANE_GAP;
  return model.drawn.reduce((sum, lane) => sum + lane.height, 0);
}

function laneName(model, lane) {
  const disk = model.facts.disks[lane.disk];
  return `worker ${lane.worker} · ${disk.length > 9 ? disk.slice(0, 8) + "…" : disk}`;
}

function tipOfLane(page, u, left, top) {
  const {model, view} = page, time = u.posToVal(left, "x"), reach = 3 * (view.to - view.from) / u.over.clientWidth;
  let below = top;
  const lane = model.drawn.find((lane) => (below -= lane.height) < 0);
  if (!lane) return null;
  if (!page.lanesSingle) return tipOfDepth(page, u, lane, left);
  const each = (lane.height - LANE_GAP) / Math.max(lane.slots, 1), up = -below; // from the lane's lower edge
  let best = null, nearest = Infinity;
  for (const row of lane.rows) {
    if (model.submitted[row] > time + reach) break;
    if (model.end[row] < time - reach || !model.shown[model.kind[row]]) continue;
    const beside = Math.max(model.submitted[row] - time, time - model.end[row], 0) / reach;
    const aside = Math.max(0, Math.abs((model.slot[row] + 0.5) * each - up) - each / 2);
    if (aside <= 3 && beside + aside < nearest) { best = row; nearest = beside + aside; }
  }
  return best === null ? tipOfCheckpoint(model, lane.worker, time, reach) : tipOfRequest(model, best);
}

function tipOfCheckpoint(model, worker, time, reach) {
  const {at, number, released} = model.checkpoints.get(worker) || {at: []};
  const next = firstFrom(at, time), nearest = at[next] - time <= time - at[next - 1] || !next ? next : next - 1;
  if (!(Math.abs(at[nearest] - time) <= reach)) return null;
  return {title: `checkpoint ${grouped(number[nearest])} of worker ${worker}`,
    rows: [["at", moment(at[nearest])], ["released", grouped(released[nearest])]]};
}

function tipOfDepth(page, u, lane, left) {
  const {model, view} = page, at = horizontal(u, view), column = Math.min(at.columns - 1, Math.max(0, Math.floor(left)));
  const {layers, held, made, failed} = depthOf(model, lane, at), step = (view.to - view.from) / at.columns;
  const rows = [["from", moment(view.from + column * step)], ["for", duration(step)], ["submitted", grouped(made[column])]];
  for (const [kind, layer] of layers) {
    if (layer[column] > 1e-6) rows.push([`${model.facts.kinds[kind]} in the kernel, average`, grouped(layer[column], 2)]);
  }
  rows.push(["completed and held, average", grouped(Math.max(0, held[column]), 2)]);
  if (failed[column]) rows.push(["failed", grouped(failed[column])]);
  return {title: `${laneName(model, lane)}, a pixel column`, rows};
}

function tipOfRequest(model, row) {
  const lane = model.lanes[model.lane[row]], kind = model.facts.kinds[model.kind[row]];
  const rows = [["worker", String(lane.worker)], ["disk", model.facts.disks[lane.disk]]];
  if (model.kind[row] !== FSYNC) rows.push(["offset", inBytes(model.offset[row])], ["length", inBytes(model.length[row])]);
  rows.push(
    ["result", resultWords(model, row)], ["submitted", moment(model.submitted[row])],
    ["completed", moment(model.completed[row])], ["released", moment(model.released[row])],
    ["latency", duration(model.latency[row])],
    ["held", duration(model.released[row] - model.completed[row])],
  );
  return {title: `request ${model.id[row]}: ${kind}`, rows};
}

// ---- latency over time

function latencyChart(page, element) {
  const {model} = page;
  let buckets = null;
  const line = (name) => ({stroke: () => page.colours[name], width: name === "max" ? 1 : 1.5, points: {show: false}, spanGaps: true});
  const options = overTime(page, 220, {
    series: ["max", "p99", "p50"].map(line),
    y: {distr: 3},
    axis: {
      splits: (u) => ticksOfDecades(u.scales.y.min, u.scales.y.max, 8), filter: (u, splits) => splits,
      values: (u, splits) => splits.map(shortDuration),
    },
    hooks: {draw: [(u) => { if (!buckets) paintLatencies(u, model, page.view, page.colours); }]},
  });
  const u = new uPlot(options, [[0, 1], [null, null], [null, null], [null, null]], element);
  return {
    u,
    update() {
      const {view} = page, start = firstFrom(model.submitted, view.from), stop = firstFrom(model.submitted, view.to);
      page.latencySingle = stop - start <= SINGLE_MAX;
      page.submittedInView = stop - start;
      buckets = page.latencySingle ? null : bucketsOf(model, view, Math.floor(u.over.clientWidth / BUCKET));
      const empty = [null, null];
      const data = buckets ? [buckets.at, buckets.max, buckets.p99, buckets.p50] : [[view.from, view.to], empty, empty, empty];
      const [low, high] = rangeOfLatencies(model, start, stop);
      // What is not drawn needs no room.
      setBoth(u, view, data, buckets ? Math.max(low, Math.min(high, ...buckets.p50.filter(Boolean)) / 2) : low, high);
    },
    tip: (left, top) => buckets ? tipOfBucket(model, buckets, Math.floor(left / BUCKET)) : nearestRequest(page, u, left, top,
      page.latencySingle ? rowsBetween(model, page.view) : [], (row) => Math.max(model.latency[row], 1)),
  };
}

function rowsBetween(model, {from, to}) {
  const rows = [];
  for (let row = firstFrom(model.submitted, from); row < model.count && model.submitted[row] < to; row++) {
    if (model.shown[model.kind[row]] && model.latency[row] >= 0) rows.push(row);
  }
  return rows;
}

function bucketsOf(model, {from, to}, count) {
  const step = (to - from) / count, result = {at: [], p50: [], p99: [], max: [], requests: [], step, from};
  for (let bucket = 0; bucket < count; bucket++) {
    const sorted = latenciesBetween(model, from + bucket * step, from + (bucket + 1) * step);
    const value = (share) => sorted.length ? Math.max(1, percentile(sorted, share)) : null;
    result.at.push(from + (bucket + 0.5) * step);
    result.p50.push(value(0.5));
    result.p99.push(value(0.99));
    result.max.push(value(1));
    result.requests.push(sorted.length);
  }
  return result;
}

function rangeOfLatencies(model, start, stop) {
  let low = Infinity, high = 0;
  for (let row = start; row < stop; row++) {
    const latency = model.latency[row];
    if (!(latency >= 0) || !model.shown[model.kind[row]]) continue;
    low = Math.min(low, latency);
    high = Math.max(high, latency);
  }
  if (!high) return [100, 1e6];
  return [Math.max(1, low) / 1.3, Math.max(high, 2) * 1.3];
}

function tipOfBucket(model, {at, p50, p99, max, requests, step, from}, bucket) {
  if (!requests[bucket]) return null;
  return {
    title: `${grouped(requests[bucket])} completed requests`,
    rows: [["submitted from", moment(from + bucket * step)], ["for", duration(step)], ["p50", duration(p50[bucket])],
      ["p99", duration(p99[bucket])], ["slowest", duration(max[bucket])]],
  };
}

// The request whose mark is nearest to the pointer, within 12 px.
function nearestRequest(page, u, left, top, rows, valueOf) {
  const {model} = page;
  let best = null, nearest = 12 * 12;
  for (const row of rows) {
    const across = u.valToPos(model.submitted[row], "x") - left;
    if (across < -12 || across > 12) continue;
    const up = u.valToPos(valueOf(row), "y") - top, far = across * across + up * up;
    if (far < nearest) { best = row; nearest = far; }
  }
  return best === null ? null : tipOfRequest(model, best);
}

// ---- offsets over time

function offsetsChart(page, element) {
  const {model} = page;
  let rows = [];
  const options = overTime(page, 260, {
    series: [{show: false}],
    axis: {splits: (u) => ticksOfSteps(u.scales.y.min, u.scales.y.max, 7, true), values: (u, splits) => splits.map(bytes)},
    hooks: {draw: [(u) => paintOffsets(u, model, page.view, page.colours, rows, page.offsetsSingle)]},
  });
  const u = new uPlot(options, [[0, 1], [null, null]], element);
  return {
    u,
    update() {
      rows = rowsOnDisk(model, page.disk, page.view.from, page.view.to);
      page.offsetsSingle = rows.length <= SINGLE_MAX;
      page.offsetsInView = rows.length;
      let low = Infinity, high = 0;
      for (const row of rows) {
        low = Math.min(low, model.offset[row]);
        high = Math.max(high, model.offset[row] + model.length[row]);
      }
      if (!rows.length) [low, high] = [0, 1 << 20];
      const room = Math.max((high - low) * 0.03, 1);
      setBoth(u, page.view, [[page.view.from, page.view.to], [null, null]], Math.max(0, low - room), high + room);
    },
    tip: (left, top) => page.offsetsSingle
      ? nearestRequest(page, u, left, top, rows, (row) => model.offset[row] + model.length[row] / 2) : null,
  };
}

// ---- distribution

function distributionChart(page, element) {
  const {model} = page;
  const stroke = (kind) => () => page.colours.kinds[kind];
  const options = {
    width: 480, height: 250, legend: {show: false}, padding: [6, 40, 0, 0],
    cursor: {points: {show: false}, drag: {x: false, y: false}, bind: {dblclick: () => () => null}},
    scales: {x: {time: false, auto: false, range: asSet, distr: 3, min: 1, max: 10}, y: {auto: false, min: 0, max: 100}},
    series: [{}, ...model.kinds.map((kind) => ({stroke: stroke(kind), width: 2, points: {show: false}}))],
    axes: [
      {...axis(page), size: 34, splits: (u) => ticksOfDecades(u.scales.x.min, u.scales.x.max, u.over.clientWidth / 70),
        filter: (u, splits) => splits, values: (u, splits) => splits.map(shortDuration)},
      {...axis(page), size: 60, values: (u, splits) => splits.map((share) => `${share}${THIN}%`)},
    ],
  };
  const u = new uPlot(options, [[1, 10], ...model.kinds.map(() => [null, null])], element);
  let curves = null;
  return {
    u,
    // Exact at each of the points.
    update(byKind) {
      const all = [...byKind.values()].filter((sorted) => sorted.length);
      const low = Math.max(1, Math.min(...all.map((sorted) => sorted[0]), Infinity)), high = Math.max(...all.map((sorted) => sorted.at(-1)), 2);
      const [from, to] = all.length ? [low / 1.15, Math.max(high, low + 1) * 1.15] : [100, 1e6];
      const points = Array.from({length: CURVE_POINTS}, (_, i) => from * (to / from) ** (i / (CURVE_POINTS - 1)));
      curves = model.kinds.map((kind) => {
        const sorted = byKind.get(kind);
        return points.map((point) => sorted?.length ? 100 * firstFrom(sorted, point) / sorted.length : null);
      });
      u.batch(() => {
        u.setData([points, ...curves], false);
        u.setScale("x", {min: from, max: to});
        u.setScale("y", {min: 0, max: 100});
      });
    },
    tip(left) {
      const at = u.posToIdx(left), rows = model.kinds.flatMap((kind, i) => curves?.[i][at] === null || !curves ? []
        : [[model.facts.kinds[kind], `${curves[i][at].toFixed(2)}${THIN}%`]]);
      return rows.length ? {title: `faster than ${duration(u.data[0][at])}`, rows} : null;
    },
  };
}

function setBoth(u, view, data, low, high) {
  u.batch(() => {
    u.setData(data, false);
    u.setScale("x", {min: view.from, max: view.to});
    u.setScale("y", {min: low, max: high});
  });
}
