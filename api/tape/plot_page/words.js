// Numbers as people read them, and where the marks of an axis stand.
"use strict";

const MINUS = "\u2212", THIN = "\u202f";
const TIME_UNITS = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
const BYTE_UNITS = [[2 ** 50, "PiB"], [2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]];
const ERRNO = {
  1: "EPERM", 4: "EINTR", 5: "EIO", 6: "ENXIO", 9: "EBADF", 11: "EAGAIN", 12: "ENOMEM", 13: "EACCES", 14: "EFAULT",
  16: "EBUSY", 19: "ENODEV", 22: "EINVAL", 27: "EFBIG", 28: "ENOSPC", 30: "EROFS", 52: "EBADE", 61: "ENODATA",
  84: "EILSEQ", 95: "EOPNOTSUPP", 110: "ETIMEDOUT", 121: "EREMOTEIO", 122: "EDQUOT", 125: "ECANCELED",
};

function grouped(value, digits = 0) {
  const text = Math.abs(value).toFixed(digits), [whole, fraction] = text.split(".");
  return (value < 0 ? MINUS : "") + whole.replace(/\B(?=(\d{3})+$)/g, THIN) + (fraction ? "." + fraction : "");
}

// A duration to three digits that count.
function duration(ns) {
  if (!(ns >= 0)) return "–";
  const [scale, unit] = TIME_UNITS.find(([scale]) => ns >= scale) || [1, "ns"];
  const value = ns / scale;
  return grouped(value, unit === "ns" || value >= 100 ? 0 : value >= 10 ? 1 : 2) + THIN + unit;
}

// The same without zeros that say nothing, for the marks of an axis.
function shortDuration(ns) {
  return duration(ns).replace(/\.(\d*?)0+(?=\D)/, (_, digits) => digits ? "." + digits : "");
}

// A point in time, to the nanosecond.
function moment(ns) {
  return ns >= 0 ? (ns < 1e6 ? grouped(ns / 1e3, 3) + THIN + "µs" : grouped(ns / 1e6, 6) + THIN + "ms") : "never";
}

// A point in time, as exactly as a stretch of so many nanoseconds asks for; `unit` from `timeUnit`.
function momentOf(ns, step, [scale, unit]) {
  let digits = 0; // as many as the step has
  while (digits < 9 && Math.abs(step / scale * 10 ** digits - Math.round(step / scale * 10 ** digits)) > 1e-6) digits++;
  return grouped(ns / scale, digits) + THIN + unit;
}

function timeUnit(span) {
  return TIME_UNITS.find(([scale]) => span >= 2 * scale) || TIME_UNITS[3];
}

function bytes(value) {
  const [scale, unit] = BYTE_UNITS.find(([scale]) => Math.abs(value) >= scale) || [1, "B"];
  const scaled = value / scale, digits = Number.isInteger(scaled) ? 0 : scaled >= 100 ? 0 : scaled >= 10 ? 1 : 2;
  return grouped(scaled, digits) + THIN + unit;
}

function inBytes(value) { return grouped(value) + THIN + "B"; }

function resultWords(model, row) {
  if (!(model.latency[row] >= 0)) return "none: it did not complete";
  const result = model.result[row];
  if (result < 0) return `failed: ${ERRNO[-result] || "errno " + -result}`;
  if (model.kind[row] > 2) return grouped(result);
  return inBytes(result) + (result === model.length[row] ? "" : " (short)");
}

// 1, 2 and 5 times powers of ten between two numbers; plain steps where that is too few, powers alone if too many.
function ticksOfDecades(low, high, most) {
  if (high / low < 4) return ticksOfSteps(low, high, most);
  for (const steps of [[1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
      for (const step of steps) {
        const tick = step * 10 ** power;
        if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
      }
    }
    if (ticks.length <= most || steps.length === 1) return ticks;
  }
}

// Even steps between two numbers, of a power of two for bytes.
function ticksOfSteps(low, high, most, binary = false) {
  const least = (high - low) / most || 1;
  let step = binary ? 2 ** Math.ceil(Math.log2(least)) : 10 ** Math.floor(Math.log10(least));
  if (!binary) step *= [1, 2, 5, 10].find((factor) => factor * step >= least) || 10;
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) ticks.push(tick);
  return ticks;
}
