// Reads the columns that are in the page: base64 of deflated planes of bytes, as api/tape/plot_columns.py stores them.
"use strict";

async function readColumns() {
  const shapes = JSON.parse(document.getElementById("shapes").textContent);
  const columns = {};
  await Promise.all(Object.entries(shapes).map(async ([name, shape]) => {
    const element = document.getElementById("column-" + name);
    columns[name] = unpack(await inflate(element.textContent), shape);
    element.remove();
  }));
  return columns;
}

async function inflate(text) {
  const characters = atob(text), packed = new Uint8Array(characters.length);
  for (let at = 0; at < packed.length; at++) packed[at] = characters.charCodeAt(at);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Numbers up to 2^53 are exact, and the columns hold no larger ones.
function unpack(planes, {rows, width, shift, delta, signed}) {
  if (planes.length !== rows * width) throw new Error("a column of this page is cut");
  const values = new Float64Array(rows);
  for (let byte = 0; byte < width; byte++) {
    const scale = 2 ** (8 * byte + shift);
    for (let row = 0, at = byte * rows; row < rows; row++, at++) values[row] += planes[at] * scale;
  }
  if (signed) {
    for (let row = 0; row < rows; row++) {
      const value = values[row];
      values[row] = value % 2 ? -(value + 1) / 2 : value / 2;
    }
  }
  if (delta) for (let row = 1; row < rows; row++) values[row] += values[row - 1];
  return values;
}
