// What there is to draw: requests in the order of their submission, lanes, and a place for each request in its lane.
"use strict";

const LANES_MAX = 256; // that are drawn
const FSYNC = 5;

// Of each column: id, submitted, completed (NaN for never), end, offset, length, result, lane, kind; slot is the
// request's place in its lane, so that no two overlap.
function makeModel(columns, facts) {
  const count = columns.id.length;
  const {id, submitted, offset, length, kernel, held} = columns;
  const model = {
    facts, count, id, submitted, offset, length,
    result: columns.result,
    latency: new Float64Array(count),
    completed: new Float64Array(count),
    released: new Float64Array(count),
    end: new Float64Array(count),
    lane: Uint32Array.from(columns.lane),
    kind: Uint8Array.from(columns.kind),
    slot: new Uint32Array(count),
    shown: new Uint8Array(256).fill(1), // by kind
  };
  let last = 0;
  for (let row = 0; row < count; row++) {
    model.latency[row] = kernel[row] ? kernel[row] - 1 : NaN;
    model.completed[row] = submitted[row] + model.latency[row];
    model.released[row] = held[row] ? model.completed[row] + held[row] - 1 : NaN;
    // 1 and 2 are a read and a write, which are told by what they moved less than they asked for.
    if (kernel[row] && columns.kind[row] <= 2) model.result[row] += length[row];
    last = Math.max(last, submitted[row], model.completed[row] || 0, model.released[row] || 0);
  }
  model.checkpoints = checkpointsByWorker(columns);
  if (facts.whole) for (const {at} of model.checkpoints.values()) if (at.length) last = Math.max(last, at[at.length - 1]);
  model.first = facts.whole ? 0 : count ? submitted[0] : 0;
  model.last = Math.max(last + 1, model.first + 1000); // after all that happened
  for (let row = 0; row < count; row++) {
    // What did not end is drawn to the end.
    model.end[row] = model.released[row] >= 0 ? model.released[row] : model.last;
  }
  model.kinds = [...new Set(model.kind)].sort();
  model.lanes = makeLanes(model);
  model.drawn = [...model.lanes].sort((a, b) => b.rows.length - a.rows.length).slice(0, LANES_MAX)
    .sort((a, b) => a.index - b.index);
  model.disks = [...new Set(model.lanes.map((lane) => lane.disk))].sort((a, b) => a - b);
  return model;
}

function checkpointsByWorker({token_worker: worker, token_number: number, token_at: at, token_released: released}) {
  const byWorker = new Map();
  for (let start = 0; start < worker.length;) {
    let stop = start;
    while (stop < worker.length && worker[stop] === worker[start]) stop++;
    byWorker.set(worker[start], {
      at: at.subarray(start, stop), number: number.subarray(start, stop), released: released.subarray(start, stop),
    });
    start = stop;
  }
  return byWorker;
}

function makeLanes(model) {
  const counts = new Uint32Array(model.facts.lanes.length);
  for (let row = 0; row < model.count; row++) counts[model.lane[row]]++;
  const lanes = model.facts.lanes.map(({worker, disk}, index) => ({
    index, worker, disk, rows: new Uint32Array(counts[index]), slots: 0,
  }));
  counts.fill(0);
  for (let row = 0; row < model.count; row++) {
    const lane = model.lane[row];
    lanes[lane].rows[counts[lane]++] = row;
  }
  for (const lane of lanes) lane.slots = placeInSlots(lane.rows, model);
  return lanes;
}

// Gives each request the lowest place that is free from its submission to its release; returns how many there are.
function placeInSlots(rows, {submitted, end, slot}) {
  const busy = new Heap((row) => end[row]);
  const free = new Heap((place) => place);
  let slots = 0;
  for (const row of rows) {
    while (busy.size && end[busy.least] <= submitted[row]) free.push(slot[busy.pop()]);
    slot[row] = free.size ? free.pop() : slots++;
    busy.push(row);
  }
  return slots;
}

class Heap {
  constructor(key) { this.key = key; this.items = []; this.keys = []; }
  get size() { return this.items.length; }
  get least() { return this.items[0]; }
  push(item) {
    const {items, keys} = this, key = this.key(item);
    let at = items.length;
    while (at) {
      const up = (at - 1) >> 1;
      if (keys[up] <= key) break;
      items[at] = items[up]; keys[at] = keys[up]; at = up;
    }
    items[at] = item; keys[at] = key;
  }
  pop() {
    const {items, keys} = this, least = items[0], item = items.pop(), key = keys.pop(), size = items.length;
    let at = 0;
    for (let down = 1; down < size; down = 2 * at + 1) {
      if (down + 1 < size && keys[down + 1] < keys[down]) down++;
      if (keys[down] >= key) break;
      items[at] = items[down]; keys[at] = keys[down]; at = down;
    }
    if (size) { items[at] = item; keys[at] = key; }
    return least;
  }
}

// The first row of a sorted column that is not below the value.
function firstFrom(column, value) {
  let low = 0, high = column.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (column[middle] < value) low = middle + 1; else high = middle;
  }
  return low;
}

// How many requests are drawn at least in part between two times, in all lanes that are drawn.
function countInView(model, from, to) {
  const {submitted, end, kind, shown} = model, stop = firstFrom(submitted, to);
  let count = 0;
  for (let row = 0; row < stop; row++) if (end[row] >= from && shown[kind[row]]) count++;
  return count;
}

// The latencies of what was submitted between two times, sorted; of one kind, or of all that are shown.
function latenciesBetween(model, from, to, only) {
  const start = firstFrom(model.submitted, from), stop = firstFrom(model.submitted, to);
  const values = new Float64Array(stop - start);
  let count = 0;
  for (let row = start; row < stop; row++) {
    const kind = model.kind[row];
    if (only === undefined ? !model.shown[kind] : kind !== only) continue;
    const latency = model.latency[row];
    if (latency >= 0) values[count++] = latency;
  }
  return values.subarray(0, count).sort();
}

// The least of the sorted values that at least so many of them do not exceed.
function percentile(sorted, share) {
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] : NaN;
}
