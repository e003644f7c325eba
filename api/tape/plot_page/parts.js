// What stands around the charts of a page: notes, keys, rows of tables, the tip at the pointer, and what went wrong.
"use strict";

function note(id, first, rest) {
  const element = document.getElementById(id), strong = document.createElement("b");
  strong.textContent = first ? first + ". " : "";
  element.replaceChildren(strong, rest);
}

function swatch(name, bar = false) {
  const mark = document.createElement("span");
  mark.className = bar ? "swatch bar" : "swatch";
  mark.style.background = `var(--${name})`;
  return mark;
}

function key(id, entries) {
  document.getElementById(id).replaceChildren(...entries.map(([name, text, bar]) => {
    const entry = document.createElement("span");
    entry.append(swatch(name, bar), text);
    if (name === "held") entry.firstChild.style.opacity = 0.5;
    return entry;
  }));
}

function cells(tag, texts) {
  const row = document.createElement("tr");
  row.append(...texts.map((text) => {
    const cell = document.createElement(tag);
    cell.append(...[text].flat());
    return cell;
  }));
  return row;
}

function showTip(event, tip) {
  const element = document.getElementById("tip");
  if (!tip) return hideTip();
  const title = document.createElement("b"), list = document.createElement("dl");
  title.textContent = tip.title;
  for (const [name, value] of tip.rows) {
    const term = document.createElement("dt"), what = document.createElement("dd");
    term.textContent = name;
    what.textContent = value;
    list.append(term, what);
  }
  element.replaceChildren(title, list);
  element.hidden = false;
  const left = event.clientX + 16 + element.offsetWidth > innerWidth ? event.clientX - 16 - element.offsetWidth : event.clientX + 16;
  element.style.left = `${Math.max(4, left)}px`;
  element.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - element.offsetHeight - 4))}px`;
  return undefined;
}

function hideTip() { document.getElementById("tip").hidden = true; }

function trouble(text) {
  const element = document.getElementById("trouble");
  element.textContent = text;
  element.hidden = !text;
}
