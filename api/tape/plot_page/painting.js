// Paints what uPlot has no series for onto its canvas: requests in their lanes, and offsets.
//
// Two ways, by how much is in view: up to SINGLE_MAX requests each one, else sums by pixel column. The page says which.
"use strict";

const SINGLE_MAX = 20000;
const LANE_GAP = 5;
const STRIP = 3; // px, of checkpoints and failures that are counted
const CELL = 4; // px, of the map of offsets

// From times to pixels of the canvas, for one painting.
function horizontal(u, {from, to}) {
  const {left, width} = u.bbox, ratio = devicePixelRatio, columns = Math.max(1, Math.floor(width / ratio));
  return {
    ratio, columns, left, width, from, to,
    x: (time) => left + (Math.min(Math.max(time, from), to) - from) / (to - from) * width,
    column: (time) => (Math.min(Math.max(time, from), to) - from) / (to - from) * columns,
  };
}

// Behind every second lane, so that the eye can follow one.
function paintBands(u, model, colours) {
  const unit = u.bbox.height / u.scales.y.max;
  let top = u.bbox.top;
  u.ctx.save(); // uPlot remembers what it has set
  u.ctx.fillStyle = colours.band;
  for (const [place, lane] of model.drawn.entries()) {
    if (place % 2 === 0) u.ctx.fillRect(u.bbox.left, top, u.bbox.width, lane.height * unit);
    top += lane.height * unit;
  }
  u.ctx.restore();
}

function paintLanes(u, model, view, colours, single) {
  const {ctx} = u, at = horizontal(u, view), unit = u.bbox.height / u.scales.y.max;
  let top = u.bbox.top;
  ctx.save();
  ctx.beginPath();
  ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  ctx.clip();
  for (const lane of model.drawn) {
    const height = lane.height * unit, box = {top: top + LANE_GAP * unit, height: height - LANE_GAP * unit};
    if (single) paintRequests(ctx, model, lane, at, box, colours);
    else paintDepth(ctx, model, lane, at, box, colours);
    paintCheckpoints(ctx, model, lane, at, {top, height}, colours);
    top += height;
  }
  ctx.restore();
}

function paintRequests(ctx, model, lane, at, box, colours) {
  const {submitted, completed, end, kind, slot, shown, result} = model;
  const each = box.height / Math.max(lane.slots, 1), tall = Math.max(each > 4 * at.ratio ? each - at.ratio : each, at.ratio);
  const bottom = box.top + box.height;
  const inView = [];
  for (const row of lane.rows) {
    if (submitted[row] > at.to) break;
    if (end[row] >= at.from && shown[kind[row]]) inView.push(row);
  }
  const bar = (row, from, to) => {
    const x = at.x(from);
    ctx.fillRect(x, bottom - (slot[row] + 1) * each, Math.max(at.x(to) - x, at.ratio), tall);
  };
  ctx.fillStyle = colours.held;
  ctx.globalAlpha = 0.5;
  for (const row of inView) {
    if (completed[row] < end[row] && end[row] >= at.from && completed[row] <= at.to) bar(row, completed[row], end[row]);
  }
  ctx.globalAlpha = 1;
  for (const one of model.kinds) {
    ctx.fillStyle = colours.kinds[one];
    for (const row of inView) {
      if (kind[row] !== one || completed[row] < at.from) continue;
      bar(row, submitted[row], completed[row] >= 0 ? completed[row] : end[row]);
    }
  }
  ctx.fillStyle = colours.failed;
  for (const row of inView) if (result[row] < 0 && completed[row] >= at.from) bar(row, submitted[row], completed[row]);
}

// Sums by pixel column: how many requests were in the kernel on average, by kind, and how many were held after.
function depthOf(model, lane, at) {
  const {submitted, completed, end, kind, shown, result} = model, size = at.columns + 2;
  const layers = new Map(model.kinds.map((one) => [one, new Float64Array(size)]));
  const held = new Float64Array(size), made = new Uint32Array(size), failed = new Uint32Array(size);
  for (const row of lane.rows) {
    if (submitted[row] > at.to) break;
    if (end[row] < at.from || !shown[kind[row]]) continue;
    const done = completed[row] >= 0 ? completed[row] : end[row];
    const start = at.column(submitted[row]), middle = at.column(done);
    if (submitted[row] >= at.from) made[Math.floor(start)]++;
    if (result[row] < 0 && done >= at.from && done <= at.to) failed[Math.floor(middle)]++;
    addStretch(layers.get(kind[row]), start, middle);
    addStretch(held, middle, at.column(end[row]));
  }
  for (const layer of [...layers.values(), held]) for (let i = 1; i < size; i++) layer[i] += layer[i - 1];
  return {layers, held, made, failed};
}

// Adds a stretch to the differences between columns, so that their sum is how much of each column it covers.
function addStretch(layer, from, to) {
  const first = Math.floor(from), last = Math.floor(to), within = from - first, beyond = to - last;
  layer[first] += 1 - within;
  layer[first + 1] += within;
  layer[last] -= 1 - beyond;
  layer[last + 1] -= beyond;
}

function paintDepth(ctx, model, lane, at, box, colours) {
  const {layers, held, failed} = depthOf(model, lane, at);
  const each = box.height / Math.max(lane.slots, 1), bottom = box.top + box.height, wide = at.width / at.columns;
  const below = new Float64Array(at.columns);
  const stack = (layer) => {
    for (let column = 0; column < at.columns; column++) {
      if (layer[column] < 1e-9) continue;
      const tall = Math.max(layer[column] * each, at.ratio);
      ctx.fillRect(at.left + column * wide, bottom - below[column] - tall, wide + 0.3, tall);
      below[column] += tall;
    }
  };
  for (const [one, layer] of layers) {
    ctx.fillStyle = colours.kinds[one];
    stack(layer);
  }
  ctx.fillStyle = colours.held;
  ctx.globalAlpha = 0.5;
  stack(held);
  ctx.globalAlpha = 1;
  ctx.fillStyle = colours.failed;
  for (let column = 0; column < at.columns; column++) {
    if (failed[column]) ctx.fillRect(at.left + column * wide, bottom - STRIP * at.ratio, wide + at.ratio, STRIP * at.ratio);
  }
}

// How many checkpoints of the workers that are drawn are in view: as lines, and counted into strips.
function countCheckpoints(model, at) {
  const found = {lines: 0, strips: 0};
  for (const worker of new Set(model.drawn.map((lane) => lane.worker))) {
    const times = model.checkpoints.get(worker)?.at || [], count = firstFrom(times, at.to) - firstFrom(times, at.from);
    found[areLines(count, at) ? "lines" : "strips"] += count;
  }
  return found;
}

function areLines(count, at) { return count <= at.columns / 5; }

// Lines; where they would stand closer than 5 px on average, a strip that is darker where there are more.
function paintCheckpoints(ctx, model, lane, at, box, colours) {
  const times = model.checkpoints.get(lane.worker)?.at;
  if (!times) return;
  const start = firstFrom(times, at.from), stop = firstFrom(times, at.to);
  ctx.fillStyle = colours.checkpoint;
  if (areLines(stop - start, at)) {
    ctx.globalAlpha = 0.55;
    for (let i = start; i < stop; i++) ctx.fillRect(Math.round(at.x(times[i])), box.top, at.ratio, box.height);
  } else {
    const counts = new Uint32Array(at.columns + 1), wide = at.width / at.columns;
    for (let i = start; i < stop; i++) counts[Math.floor(at.column(times[i]))]++;
    const most = Math.log2(1 + counts.reduce((one, other) => Math.max(one, other), 0));
    for (let column = 0; column < at.columns; column++) {
      if (!counts[column]) continue;
      ctx.globalAlpha = 0.1 + 0.5 * Math.log2(1 + counts[column]) / most;
      ctx.fillRect(at.left + column * wide, box.top, wide + 0.3, STRIP * at.ratio);
    }
  }
  ctx.globalAlpha = 1;
}

// ---- latency, one by one

function paintLatencies(u, model, view, colours) {
  const {ctx} = u, at = horizontal(u, view);
  const start = firstFrom(model.submitted, view.from), stop = firstFrom(model.submitted, view.to);
  const crowded = stop - start > 3000, size = (crowded ? 3 : 4) * at.ratio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  ctx.clip();
  ctx.globalAlpha = crowded ? 0.55 : 0.85;
  for (const kind of model.kinds) {
    if (!model.shown[kind]) continue;
    ctx.fillStyle = colours.kinds[kind];
    for (let row = start; row < stop; row++) {
      if (model.kind[row] !== kind || !(model.latency[row] >= 0)) continue;
      const y = u.valToPos(Math.max(model.latency[row], 1), "y", true);
      ctx.fillRect(at.x(model.submitted[row]) - size / 2, y - size / 2, size, size);
    }
  }
  ctx.restore();
}

// ---- offsets

function rowsOnDisk(model, disk, from, to) {
  const start = firstFrom(model.submitted, from), stop = firstFrom(model.submitted, to), rows = [];
  const on = new Set(model.lanes.filter((lane) => lane.disk === disk).map((lane) => lane.index));
  for (let row = start; row < stop; row++) {
    if (on.has(model.lane[row]) && model.kind[row] !== FSYNC && model.shown[model.kind[row]]) rows.push(row);
  }
  return rows;
}

function paintOffsets(u, model, view, colours, rows, single) {
  const {ctx} = u, at = horizontal(u, view), {top, height} = u.bbox, {min, max} = u.scales.y;
  const y = (offset) => top + height - (offset - min) / (max - min) * height;
  ctx.save();
  ctx.beginPath();
  ctx.rect(u.bbox.left, top, u.bbox.width, height);
  ctx.clip();
  if (single) {
    for (const kind of model.kinds) {
      ctx.fillStyle = colours.kinds[kind];
      for (const row of rows) {
        if (model.kind[row] !== kind) continue;
        const x = at.x(model.submitted[row]), done = model.completed[row] >= 0 ? model.completed[row] : model.end[row];
        const low = y(model.offset[row]), tall = Math.max(low - y(model.offset[row] + model.length[row]), 2 * at.ratio);
        ctx.fillRect(x, low - tall, Math.max(at.x(done) - x, 2 * at.ratio), tall);
      }
    }
  } else {
    paintDensity(ctx, model, at, {top, height, min, max}, colours, rows);
  }
  ctx.restore();
}

// Cells in the colour of the kind that has most requests there, the darker the more there are (logarithmic).
function paintDensity(ctx, model, at, {top, height, min, max}, colours, rows) {
  const across = Math.max(1, Math.round(at.columns / CELL)), up = Math.max(1, Math.round(height / at.ratio / CELL));
  const counts = new Map(model.kinds.map((kind) => [kind, new Uint32Array((across + 1) * (up + 1))]));
  for (const row of rows) {
    const column = Math.floor((model.submitted[row] - at.from) / (at.to - at.from) * across);
    const line = Math.floor((model.offset[row] - min) / (max - min) * up);
    counts.get(model.kind[row])[column * (up + 1) + line]++;
  }
  let most = 0;
  for (const cells of counts.values()) for (const count of cells) most = Math.max(most, count);
  const wide = at.width / across, tall = height / up;
  for (let column = 0; column <= across; column++) {
    for (let line = 0; line <= up; line++) {
      let best = 0, colour = null, sum = 0;
      for (const [kind, cells] of counts) {
        const count = cells[column * (up + 1) + line];
        sum += count;
        if (count > best) { best = count; colour = colours.kinds[kind]; }
      }
      if (!sum) continue;
      ctx.fillStyle = colour;
      ctx.globalAlpha = 0.2 + 0.8 * Math.log2(1 + Math.min(sum, most)) / Math.log2(1 + most);
      // On whole pixels, or the seams would be seen.
      const x = Math.round(at.left + column * wide), y = Math.round(top + height - (line + 1) * tall);
      ctx.fillRect(x, y, Math.round(at.left + (column + 1) * wide) - x, Math.round(top + height - line * tall) - y);
    }
  }
}
