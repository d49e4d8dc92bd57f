"use strict";
// The page's data, unpacked; every text from it goes into the page as text, never as markup.

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function named(column, row) {
  const code = column.codes[row];
  return code < 0 ? null : column.names[code];
}

function asNumber(value) {
  return typeof value === "string" ? { inf: Infinity, "-inf": -Infinity, nan: NaN }[value] : value;
}

function shown(value) {
  const number = asNumber(value);
  if (number === null || number === undefined) return "";
  return Number.isFinite(number) && number < 1e300 ? String(Number(number.toPrecision(3))) : "∞";
}

// A verdict's mark: a shape or letter beside the colour, for eyes and printers that see none.
const MARKS = {
  pass: ["✓", "good"], known: ["k", "known"], fail: ["✗", "bad"], stale: ["s", "bad"], error: ["!", "bad"], unavailable: ["–", "none"],
  unchanged: ["=", "good"], rounding: ["≈", "known"], fixed: ["+", "odd"], appeared: ["a", "odd"], unmeasured: ["–", "none"],
  reference_moved: ["R", "bad"], port_moved: ["P", "bad"], both_moved: ["B", "bad"], broke: ["!", "bad"], vanished: ["∅", "bad"], tokens_moved: ["T", "bad"],
};
const SHORT = { exact: "e", float32: "32", bfloat16: "bf", float16: "16" };
const RANKS = ["unavailable", "unmeasured", "unchanged", "pass", "rounding", "known", "fixed", "appeared"];

class Cells {
  constructor(data) {
    this.data = data;
    this.columns = data.cells;
    this.length = data.cells.cell_id.codes.length;
    this.places = new Map();
    for (let row = 0; row < this.length; row += 1) this.places.set(this.text("cell_id", row), row);
    this.red = new Set(data.red);
  }

  text(name, row) {
    return named(this.columns[name], row);
  }

  verdict(row) {
    return this.text("verdict", row);
  }

  isRed(row) {
    return this.columns.worse ? this.columns.worse[row] === 1 : this.red.has(this.verdict(row));
  }

  isDelegated(row) {
    const { sites_compared: all, sites_passed_through: through } = this.columns;
    return Boolean(all) && this.verdict(row) === "pass" && this.text("probe", row) === null && all[row] === through[row];
  }

  mark(row) {
    const [mark, look] = MARKS[this.verdict(row)] ?? ["?", "odd"];
    if (this.isDelegated(row)) return ["(✓)", "none"];
    return [mark, this.isRed(row) ? "bad" : look === "bad" ? "odd" : look];
  }

  rank(row) {
    return this.isRed(row) ? RANKS.length + 1 : RANKS.indexOf(this.verdict(row));
  }

  words(row) {
    const names = ["cell_id", "group", "loading_mode", "dtype", "probe", "verdict", "first_site", "attribution", "nature"];
    return names.filter((name) => this.columns[name]).map((name) => this.text(name, row) ?? "").join(" ").toLowerCase();
  }

  // The rows of a cell's sites: their range in the columns of `sites`.
  sites(row) {
    const { ends } = this.data.sites;
    return [row === 0 ? 0 : ends[row - 1], ends[row]];
  }
}
