"use strict";
// One cell: what is wrong with it, where first, on which tokens, and how to have it measured again.

// A word for a shell: what rows say is pasted there, and must stay one word.
const inShell = (word) => (/^[\w@%+=:,.\/-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

class CellView {
  constructor(cells, place) {
    this.cells = cells;
    this.place = place;
  }

  show(id) {
    const row = this.cells.places.get(id);
    if (row === undefined) {
      this.place.replaceChildren(make("p", { class: "alarm bad" }, `There is no cell ${id} here; go back with Esc.`));
      return;
    }
    const { data } = this.cells;
    const [mark, look] = this.cells.mark(row);
    const first = this.cells.text("first_site", row);
    const parts = [
      make("h2", { id: "cell-name" }, id),
      make("div", { class: "bar" },
        make("span", { class: `badge ${look}`, id: "cell-verdict" }, `${mark} ${this.cells.verdict(row)}${this.cells.isDelegated(row) ? ", delegated: the reference's own code, no evidence" : ""}`),
        first === null ? null : make("span", { id: "first-site" }, "first divergence: ", make("code", {}, first)),
        this.siblings(row), this.copy("copy replay command", this.again(row)), this.copy("copy link", () => location.href), make("button", { type: "button", onclick: () => go({ cell: null }) }, "back (Esc)")),
      this.said(row, id),
      ...(data.kind === "run" ? this.ofRun(row, id, first) : this.ofGate(row, id, first)),
    ];
    this.place.replaceChildren(...parts.filter((part) => part !== null));
    this.draw(row, id, first);
  }

  again(row) {
    const { data } = this.cells;
    if (data.kind === "run") return `${data.command} ${inShell(this.cells.text("cell_id", row))}`;
    const axes = { family: "family", variant: "variant", mode: "loading_mode", dtype: "dtype", device: "device", probe: "probe", checkpoint: "checkpoint" };
    const words = Object.entries(axes).map(([option, name]) => [option, this.cells.text(name, row)]);
    const kept = words.filter(([option, value]) => value !== null && !(option === "device" && value === "cpu") && !(option === "checkpoint" && value === "synthetic"));
    return `${data.command} ${kept.map(([option, value]) => `--${option} ${inShell(value)}`).join(" ")}`;
  }

  copy(title, words) {
    const text = () => (typeof words === "string" ? words : words());
    const button = make("button", { type: "button", class: "copy", "data-copies": typeof words === "string" ? words : null }, title);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text());
      button.textContent = "copied";
      setTimeout(() => { button.textContent = title; }, 1500);
    });
    return button;
  }

  siblings(row) {
    const axes = ["group", "loading_mode", "dtype", "device", "probe"];
    const alike = [];
    for (let other = 0; other < this.cells.length; other += 1) {
      if (axes.every((name) => this.cells.text(name, other) === this.cells.text(name, row))) alike.push(other);
    }
    if (alike.length < 2) return null;
    const options = alike.map((other) => {
      const id = this.cells.text("cell_id", other);
      return make("option", { value: id, ...(other === row ? { selected: "" } : {}) }, `${this.cells.mark(other)[0]} ${this.cells.text("variant", other)}`);
    });
    return make("label", {}, "variant ", make("select", { onchange: (event) => go({ cell: event.target.value }) }, ...options));
  }

  said(row, id) {
    const { messages } = this.cells.data;
    const words = messages?.[id] ?? this.cells.text("reason", row);
    const limitation = this.cells.columns.limitation ? this.cells.text("limitation", row) : null;
    const said = words ? make("pre", { id: "message" }, words) : null;
    return limitation ? make("div", {}, said ?? "", make("p", {}, `limitation: ${limitation}`)) : said;
  }

  ofRun(row, id, first) {
    const [begin, end] = this.cells.sites(row);
    const plots = begin === end ? [make("p", { class: "faint" }, "no site was compared")] : [
      make("h2", {}, "share of what is allowed, by layer and site"), make("div", { id: "map", class: "plot" }),
      make("h2", {}, "error over layers"), make("div", { class: "bar" }, make("label", {}, "site ", make("select", { id: "curve-site" }))), make("div", { id: "curve", class: "plot" }),
    ];
    return [this.tokens(id, first), ...plots, this.relations(begin, end), this.table(begin, end)];
  }

  ofGate(row, id, first) {
    const { columns, data } = this.cells;
    const names = { drift: "drift at the first site", drift_reference: "of the reference", drift_port: "of the port", drift_logits: "drift at the logits", error_old: "error before", error_new: "error after" };
    const facts = Object.entries(names).filter(([name]) => columns[name][row] !== null).map(([name, title]) => make("tr", {}, make("th", { scope: "row" }, title), make("td", { class: "number" }, shown(columns[name][row]))));
    const who = ["attribution", "nature", "moved_by"].map((name) => this.cells.text(name, row)).filter(Boolean).join(" · ");
    const lost = data.lost[id];
    const moves = data.moves[id];
    return [
      who ? make("p", { id: "who" }, `who moved: ${who}`) : null, make("table", {}, make("tbody", {}, ...facts)),
      lost ? make("p", {}, `sites compared no more: ${lost.join(" ")}`) : null, this.tokens(id, first),
      ...(moves ? [make("h2", {}, "how far it moved, by layer and site"), make("div", { id: "map", class: "plot" }), make("h2", {}, "error before and after, over layers"), make("div", { class: "bar" }, make("label", {}, "site ", make("select", { id: "curve-site" }))), make("div", { id: "curve", class: "plot" })] : []),
    ];
  }

  // The smallest prompt that shows it; where differences by position are known, with their sizes.
  tokens(id, first) {
    const { data } = this.cells;
    const prompt = data.prompts[id];
    if (!prompt) return null;
    const at = data.positions?.[id];
    const sizes = new Map((at?.row ?? []).map((row, index) => [`${row},${at.position[index]}`, index]));
    const largest = at ? Math.max(...at.max_abs.map(asNumber)) : 0;
    const rows = prompt.tokens.map((tokens, row) => make("div", { class: "tokens" }, ...tokens.flatMap((token, position) => {
      const index = sizes.get(`${row},${position}`);
      const size = index === undefined ? null : asNumber(at.max_abs[index]);
      const looks = ["token", prompt.mask[row][position] ? "" : "masked", size !== null && size > 0 && size === largest ? "worst" : ""].join(" ");
      const share = size && largest ? Math.max(0.08, Math.min(1, 1 + Math.log10(size / largest) / 4)) : 0;
      const span = make("span", { class: looks, title: size === null ? `position ${position}` : `position ${position}: max |Δ| ${shown(size)}, rel_l2 ${shown(at.rel_l2[index])}` }, String(token));
      if (share > 0) span.style.background = `color-mix(in srgb, var(--bad) ${Math.round(45 * share)}%, transparent)`;
      return [span, " "];
    })));
    const told = at ? `smallest prompt (${prompt.origin}); shaded by max |Δ| at ${at.site}, the largest is ${shown(largest)}` : `smallest prompt (${prompt.origin})`;
    return make("div", { id: "tokens" }, make("h2", {}, told), ...rows, this.byPosition(at));
  }

  byPosition(at) {
    if (!at) return null;
    const head = ["row", "position", "token", "max |Δ|", "rel_l2"].map((name) => make("th", { class: "number" }, name));
    const body = at.row.slice(0, 400).map((row, index) => make("tr", {}, ...[row, at.position[index], at.token[index] ?? "", shown(at.max_abs[index]), shown(at.rel_l2[index])].map((value) => make("td", { class: "number" }, String(value)))));
    return make("details", {}, make("summary", {}, "difference at each position"), make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
  }

  relations(begin, end) {
    const { sites } = this.cells.data;
    const rows = [];
    for (let place = begin; place < end; place += 1) {
      if (named(sites.relation, place) !== "equal") rows.push(place);
    }
    if (!rows.length) return begin === end ? null : make("p", { id: "relations" }, "every site is compared as it is: nothing is taken out");
    const body = rows.map((place) => make("tr", {}, make("td", {}, named(sites.site, place)), make("td", {}, named(sites.relation, place)), make("td", { class: "number" }, shown(sites.shift_abs[place]))));
    const head = ["site", "relation", "largest part taken out"].map((name) => make("th", {}, name));
    return make("details", { id: "relations" }, make("summary", {}, `${rows.length} sites are compared after a relation has taken its part out`), make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
  }

  table(begin, end) {
    const { sites } = this.cells.data;
    if (begin === end) return null;
    const columns = { share: "share of allowed", rel_l2: "rel_l2", port_error: "port error", reference_error: "reference error", max_abs: "max |Δ|" };
    const head = ["site", ...Object.values(columns), "own code"].map((name) => make("th", {}, name));
    const body = [];
    for (let place = begin; place < end; place += 1) {
      const numbers = Object.keys(columns).map((name) => make("td", { class: "number" }, shown(sites[name][place])));
      body.push(make("tr", {}, make("td", { class: sites.failed[place] ? "bad" : "" }, `${sites.failed[place] ? "✗ " : ""}${named(sites.site, place)}`), ...numbers, make("td", {}, sites.passed_through[place] ? "passed through" : "yes")));
    }
    return make("details", { id: "rows" }, make("summary", {}, `all ${end - begin} sites as a table`), make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
  }

  draw(row, id, first) {
    const map = this.place.querySelector("#map");
    if (map === null) return;
    const rows = this.cells.data.kind === "run" ? this.rowsOfRun(row) : this.rowsOfGate(id);
    heatMap(map, rows, first, this.cells.data.kind === "run" ? "judged ÷ allowed" : "drift");
    const within = [...new Set(rows.map(({ site }) => layerAndName(site)?.name).filter(Boolean))];
    const select = this.place.querySelector("#curve-site");
    select.replaceChildren(...within.map((name) => make("option", {}, name)));
    const wanted = first === null ? null : layerAndName(first)?.name;
    select.value = within.includes(wanted) ? wanted : within.includes("resid_post") ? "resid_post" : within[0] ?? "";
    const redraw = () => {
      const chosen = rows.filter(({ site }) => layerAndName(site)?.name === select.value);
      const x = chosen.map(({ site }) => layerAndName(site).layer);
      const lines = Object.keys(chosen[0]?.lines ?? {}).map((name, number) => ({ name, x, y: chosen.map(({ lines: of }) => of[name]), dash: ["solid", "dash", "dot"][number] }));
      curves(this.place.querySelector("#curve"), lines, this.cells.data.kind === "run" ? "relative error" : "judged error");
    };
    select.addEventListener("change", redraw);
    redraw();
  }

  rowsOfRun(row) {
    const { sites } = this.cells.data;
    const [begin, end] = this.cells.sites(row);
    const exact = this.cells.text("dtype", row) === "exact" || this.cells.text("probe", row) !== null;
    const rows = [];
    for (let place = begin; place < end; place += 1) {
      const share = shown(sites.share[place]);
      const bound = asNumber(sites.rel_l2[place]) / asNumber(sites.share[place]);
      const lines = exact ? { "port to reference": sites.rel_l2[place], allowed: bound } : { port: sites.port_error[place], "reference noise": sites.reference_error[place] };
      rows.push({ site: named(sites.site, place), value: sites.share[place], words: `${share} of what is allowed`, lines });
    }
    return rows;
  }

  rowsOfGate(id) {
    const moves = this.cells.data.moves[id];
    return moves.site.map((site, index) => {
      const [reference, port] = [moves.reference[index], moves.port[index]].map(asNumber);
      return { site, value: Math.max(reference, port), words: `reference moved ${shown(reference)}, port ${shown(port)}`, lines: { before: moves.old[index], after: moves.new[index] } };
    });
  }
}
