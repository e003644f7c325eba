// The page of reports: lines over time and over percentiles, a colour for each job and kind, and a table.
"use strict";

const LINE_COLOURS = ["read", "write", "discard", "write_zeroes", "fsync", "failed"]; // of page.css, then again, dotted
const SHOWN = [50, 90, 99, 99.9, 99.99];

class BenchPage {
  constructor(facts) {
    this.facts = facts;
    this.lines = facts.lines.map((line, at) => ({...line, shown: true, colour: LINE_COLOURS[at % LINE_COLOURS.length],
      dotted: at >= LINE_COLOURS.length}));
    this.colours = readColours({facts: {kinds: {}}});
    this.width = this.widthNow();
    this.timed = this.lines.filter((line) => line.ms);
    this.charts = [];
    if (this.timed.length) {
      this.add("rate", this.overTime([["rate", []]], {values: (u, splits) => splits.map(count)}, count));
      this.add("byte-rate", this.overTime([["byte_rate", []]], {
        values: (u, splits) => splits.map((value) => `${bytes(value)}/s`),
        splits: (u) => ticksOfSteps(0, u.scales.y.max, 6, true), filter: (u, splits) => splits}, (value) => `${bytes(value)}/s`));
      this.add("latency", this.overTime([["mean_ns", []], ["p99_ns", [6, 4]]],
        {values: (u, splits) => splits.map(shortDuration)}, duration, true));
    }
    this.add("percentiles-chart", this.percentiles());
  }

  widthNow() { return Math.max(320, document.documentElement.clientWidth - 40); }

  add(id, {options, data, tip}) {
    const u = new uPlot(options, data, document.getElementById(id));
    u.over.addEventListener("mousemove", (event) => showTip(event, tip(u)));
    u.over.addEventListener("mouseleave", hideTip);
    this.charts.push(u);
  }

  series(line, dash) {
    const style = getComputedStyle(document.documentElement);
    return {
      label: line.name, stroke: () => style.getPropertyValue("--" + line.colour).trim(), width: 2,
      dash: dash.length ? dash : line.dotted ? [2, 3] : undefined, points: {show: false}, spanGaps: true,
    };
  }

  // Each line has times of its own: they are put into one column.
  overTime(parts, axisMore, worded, logarithmic = false) {
    const times = [...new Set(this.timed.flatMap((line) => line.ms))].sort((one, other) => one - other);
    const places = new Map(times.map((time, at) => [time, at]));
    const rows = this.timed.flatMap((line) => parts.map(([column, dash]) => ({line, column, dash})));
    const columns = rows.map(({line, column}) => {
      const values = new Array(times.length).fill(null);
      line.ms.forEach((time, at) => { values[places.get(time)] = line[column][at]; });
      return values;
    });
    const all = columns.flat().filter((value) => value > 0), high = Math.max(...all, 2), low = Math.min(...all, high);
    const options = {
      width: this.width, height: 220, legend: {show: false}, padding: [6, 40, 0, 0],
      cursor: {sync: {key: "time", setSeries: false}, points: {show: false}, drag: {x: true, y: false}},
      scales: {
        x: {time: false},
        y: logarithmic ? {distr: 3, range: () => [low / 1.2, high * 1.2]} : {range: () => [0, high * 1.08]},
      },
      series: [{}, ...rows.map(({line, dash}) => this.series(line, dash))],
      axes: [
        {...axis(this), size: 34, space: 110, values: (u, splits) => splits.map((ms) => shortDuration(ms * 1e6))},
        {...axis(this), size: AXIS, ...axisMore, ...(logarithmic ? {
          splits: (u) => ticksOfDecades(u.scales.y.min, u.scales.y.max, 7), filter: (u, splits) => splits} : {})},
      ],
    };
    const tip = (u) => {
      const at = u.cursor.idx;
      if (at === null || at === undefined) return null;
      const found = rows.flatMap(({line, column}, row) => !line.shown || columns[row][at] === null ? []
        : [[line.name + (column === "p99_ns" ? ", p99" : ""), worded(columns[row][at])]]);
      return found.length ? {title: `until ${duration(times[at] * 1e6)}`, rows: found} : null;
    };
    return {options, data: [times, ...columns], tip};
  }

  // Across are percentiles, so that 90, 99, 99.9, ... stand at even distances.
  percentiles() {
    const lines = this.lines.filter((line) => line.percentiles.length);
    const all = [...new Set(lines.flatMap((line) => line.percentiles.map(([percent]) => percent)))]
      .sort((one, other) => one - other);
    const columns = lines.map((line) => {
      const known = new Map(line.percentiles);
      return all.map((percent) => known.get(percent) ?? null);
    });
    const values = columns.flat().filter((value) => value > 0), high = Math.max(...values, 2), low = Math.min(...values, high);
    const nines = (percent) => -Math.log10(1 - percent / 100), marks = [0, ...SHOWN];
    const options = {
      width: this.width, height: 250, legend: {show: false}, padding: [6, 40, 0, 0],
      cursor: {points: {show: false}, drag: {x: false, y: false}},
      scales: {x: {time: false, range: () => [0, nines(Math.max(...all, 99))]},
        y: {distr: 3, range: () => [low / 1.2, high * 1.2]}},
      series: [{}, ...lines.map((line) => this.series(line, []))],
      axes: [
        {...axis(this), size: 34, splits: () => marks.map(nines), filter: (u, splits) => splits,
          values: () => marks.map((percent) => percent ? `p${percent}` : "")},
        {...axis(this), size: AXIS, splits: (u) => ticksOfDecades(u.scales.y.min, u.scales.y.max, 7),
          filter: (u, splits) => splits, values: (u, splits) => splits.map(shortDuration)},
      ],
    };
    const tip = (u) => {
      const at = u.cursor.idx;
      if (at === null || at === undefined) return null;
      const rows = lines.flatMap((line, row) => !line.shown || columns[row][at] === null ? [] : [[line.name, duration(columns[row][at])]]);
      return rows.length ? {title: `p${all[at]}`, rows} : null;
    };
    return {options, data: [all.map(nines), ...columns], tip};
  }

  show(line, shown) {
    line.shown = shown;
    for (const u of this.charts) {
      u.series.forEach((series, at) => { if (at && series.label === line.name) u.setSeries(at, {show: shown}); });
    }
  }

  restyle() {
    this.colours = readColours({facts: {kinds: {}}});
    for (const u of this.charts) u.redraw(false, true);
  }

  resize() {
    this.width = this.widthNow();
    for (const u of this.charts) u.setSize({width: this.width, height: u.height});
  }
}

function count(value) {
  const [scale, unit] = [[1e6, "M"], [1e3, "k"], [1, ""]].find(([scale]) => value >= scale) || [1, ""];
  const scaled = value / scale;
  return grouped(scaled, Number.isInteger(scaled) || scaled >= 100 ? 0 : scaled >= 10 ? 1 : 2) + unit;
}

function fillTable(page) {
  const rows = page.lines.map((line) => {
    const known = new Map(line.percentiles);
    return cells("td", [[swatch(line.colour), line.name], grouped(line.requests), line.iops ? count(line.iops) : "–",
      line.bytes_s ? `${bytes(line.bytes_s)}/s` : "–", line.mean ? duration(line.mean) : "–", line.part || "–",
      ...SHOWN.map((percent) => known.has(percent) ? duration(known.get(percent)) : "–")]);
  });
  document.getElementById("percentiles").replaceChildren(
    cells("th", ["", "requests", "IOPS", "bandwidth", "latency mean", "percentiles of", ...SHOWN.map((percent) => `p${percent}`)]), ...rows);
}

function startBench() {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  document.title = `${facts.title} · ringtape bench`;
  document.getElementById("title").textContent = facts.title;
  document.getElementById("what").textContent = facts.what;
  if (!facts.lines.length) return trouble("There are no requests in this report.");
  document.querySelector("main").hidden = false;
  const page = new BenchPage(facts);
  for (const section of document.querySelectorAll(".over-time")) section.hidden = !page.timed.length;
  const left = page.lines.length - page.timed.length;
  note("rate-note", "", left ? `${grouped(left)} of the lines have no numbers over time in their report.` : "");
  const parts = [...new Set(page.lines.map((line) => line.part).filter((part) => part))];
  note("percentiles-note", "", parts.length ? `Of ${parts.join(" or ")}; the table says which.` : "");
  document.getElementById("kinds").append(...page.lines.map((line) => {
    const label = document.createElement("label"), box = document.createElement("input");
    Object.assign(box, {type: "checkbox", checked: true});
    box.addEventListener("change", () => page.show(line, box.checked));
    label.append(box, swatch(line.colour), line.name);
    return label;
  }));
  fillTable(page);
  addEventListener("resize", () => page.resize());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page.restyle());
  window.ringtapePlot = page;
  return undefined;
}

try {
  startBench();
} catch (error) {
  trouble(`This page cannot be drawn here: ${error.message}`);
  throw error;
} finally {
  document.body.dataset.settled = "yes";
}
