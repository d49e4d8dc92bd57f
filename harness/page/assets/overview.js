"use strict";
// All cells: family × mode and family × probe, a mark per dtype; of a gate what moved before that.

class Overview {
  constructor(cells, place) {
    this.cells = cells;
    this.place = place;
    this.words = Array.from({ length: cells.length }, (_, row) => cells.words(row));
  }

  matching(query, verdict) {
    const asked = query.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [];
    for (let row = 0; row < this.cells.length; row += 1) {
      const wanted = !verdict || this.cells.verdict(row) === verdict || (verdict === "not green" && this.cells.isRed(row));
      if (wanted && asked.every((word) => this.words[row].includes(word))) rows.push(row);
    }
    return rows;
  }

  show(query, verdict) {
    const rows = this.matching(query, verdict);
    const { data } = this.cells;
    const compared = rows.filter((row) => this.cells.text("probe", row) === null);
    const probed = rows.filter((row) => this.cells.text("probe", row) !== null);
    const parts = [...(data.alarms ?? []).map((words) => make("p", { class: "alarm bad" }, words))];
    if (data.kind === "gate") parts.push(...this.moved(rows));
    if (compared.length) parts.push(...this.matrix("family × loading mode", compared, data.modes, "loading_mode"));
    if (probed.length) parts.push(...this.matrix("family × probe", probed, data.probes, "probe"));
    if (!rows.length) parts.push(make("p", {}, "No cell matches; clear the filter with Esc."));
    if (data.about) parts.push(this.about(data.about));
    this.place.replaceChildren(...parts);
    return rows.length;
  }

  matrix(title, rows, columns, axis) {
    const groups = new Map();
    for (const row of rows) {
      const group = this.cells.text("group", row);
      const column = this.cells.text(axis, row);
      const dtype = this.cells.text("dtype", row);
      const of = groups.get(group) ?? groups.set(group, new Map()).get(group);
      const key = `${column}\n${dtype}`;
      (of.get(key) ?? of.set(key, []).get(key)).push(row);
    }
    const dtypes = Object.keys(SHORT);
    const shown = columns.filter((column) => rows.some((row) => this.cells.text(axis, row) === column));
    const body = [...groups.entries()].sort(([one], [other]) => one.localeCompare(other)).map(([group, of]) =>
      make("tr", {}, make("th", { scope: "row" }, group), ...shown.map((column) =>
        make("td", {}, ...dtypes.flatMap((dtype) => this.chip(of.get(`${column}\n${dtype}`), dtype))))));
    const head = make("tr", {}, make("th", {}, "family"), ...shown.map((column) => make("th", { scope: "col" }, column)));
    return [make("h2", {}, title), make("div", { class: "matrix" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)))];
  }

  chip(rows, dtype) {
    if (!rows) return [];
    const worst = rows.reduce((one, other) => (this.cells.rank(other) > this.cells.rank(one) ? other : one));
    const alike = rows.filter((row) => this.cells.verdict(row) === this.cells.verdict(worst)).length;
    const [mark, look] = this.cells.mark(worst);
    const id = this.cells.text("cell_id", worst);
    const label = `${id}: ${this.cells.verdict(worst)}${rows.length > 1 ? `, ${alike} of ${rows.length} cells` : ""}`;
    const number = rows.length > 1 && this.cells.isRed(worst) ? String(alike) : null;
    return [make("button", { class: `chip ${look}`, type: "button", "data-cell": id, title: label, "aria-label": label }, mark, number, make("small", {}, SHORT[dtype]))];
  }

  moved(rows) {
    const { cells } = this;
    const { columns } = cells;
    const told = rows.filter((row) => cells.isRed(row) || !["unchanged", "unmeasured", "rounding"].includes(cells.verdict(row)));
    told.sort((one, other) => cells.rank(other) - cells.rank(one));
    const packages = cells.data.packages.map((change) => `${change.name} ${change.old ?? "(absent)"} → ${change.new ?? "(absent)"}`).join(", ");
    const names = ["cell", "verdict", "who", "nature", "first site", "drift", "logits", "error old → new", "moved by"];
    const body = told.slice(0, 200).map((row) => {
      const [mark, look] = cells.mark(row);
      const id = cells.text("cell_id", row);
      return make("tr", {},
        make("td", {}, make("button", { type: "button", class: "chip", "data-cell": id }, id)),
        make("td", { class: look }, `${mark} ${cells.verdict(row)}`),
        make("td", {}, cells.text("attribution", row) ?? ""), make("td", {}, cells.text("nature", row) ?? ""),
        make("td", {}, cells.text("first_site", row) ?? ""),
        make("td", { class: "number" }, shown(columns.drift[row])), make("td", { class: "number" }, shown(columns.drift_logits[row])),
        make("td", { class: "number" }, `${shown(columns.error_old[row])} → ${shown(columns.error_new[row])}`),
        make("td", {}, cells.text("moved_by", row) ?? ""));
    });
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...names.map((name) => make("th", {}, name)))), make("tbody", {}, ...body));
    const more = told.length > 200 ? make("p", { class: "faint" }, `… and ${told.length - 200} more: narrow the filter`) : null;
    return [make("h2", {}, `what moved (${told.length})`), make("p", {}, packages || "no package differs"), make("div", { class: "matrix" }, table), ...(more ? [more] : [])];
  }

  about(rows) {
    const body = rows.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)));
    return make("details", { id: "about" }, make("summary", {}, "environment"), make("table", {}, make("tbody", {}, ...body)));
  }
}
