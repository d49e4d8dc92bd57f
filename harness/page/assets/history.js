// Many runs: every step with its curve, what changed in the packages, and how each family stands.

class HistoryOverview extends Overview {
  show(query, verdict) {
    const rows = this.matching(query, verdict);
    const wanted = new Set(rows.map((row) => this.cells.text("cell_id", row)));
    const { data } = this.cells;
    const parts = Object.entries(data.left_out).map(([run, reason]) => make("p", { class: "alarm" }, `left out: ${run}: ${reason}`));
    parts.push(...this.steps(wanted), ...this.families(rows));
    this.place.replaceChildren(...parts);
    return rows.length;
  }

  steps(wanted) {
    const { steps, nights, n_steps: all } = this.cells.data;
    const places = steps.place.map((_, index) => index).filter((index) => wanted.has(named(steps.cell_id, index)));
    const body = places.slice(0, 300).map((index) => {
      const id = named(steps.cell_id, index);
      const night = nights[steps.place[index]];
      return make("tr", { class: "step" },
        make("td", {}, night.started.slice(0, 10)), make("td", {}, night.run_id),
        make("td", { class: steps.worse[index] ? "bad" : "odd" }, `${steps.worse[index] ? "✗" : "·"} ${named(steps.kind, index)}`),
        make("td", {}, make("button", { type: "button", class: "chip", "data-cell": id }, id)),
        make("td", {}, `${steps.before[index]} → ${steps.after[index]}`),
        make("td", {}, named(steps.changed, index) ?? ""), make("td", {}, sparkline(this.cells.data.series[id], steps.place[index])));
    });
    const names = ["day", "first run", "step", "cell", "before → after", "what changed", ""];
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...names.map((name) => make("th", {}, name)))), make("tbody", {}, ...body));
    const more = places.length > body.length ? make("p", { class: "faint" }, `… and ${places.length - body.length} more: narrow the filter`) : null;
    const told = places.length ? [make("div", { class: "matrix" }, table), ...(more ? [more] : [])] : [make("p", {}, "No step.")];
    return [make("h2", { id: "steps" }, `steps (${places.length} of ${all})`), ...told];
  }

  families(rows) {
    const groups = new Map();
    for (const row of rows) {
      const group = this.cells.text("group", row);
      (groups.get(group) ?? groups.set(group, []).get(group)).push(row);
    }
    const body = [...groups].sort(([one], [other]) => one.localeCompare(other)).map(([group, of]) =>
      make("tr", {}, make("th", { scope: "row" }, group), make("td", { class: "many" }, ...of.slice(0, 60).map((row) => {
        const [mark, look] = this.cells.verdict(row) === null ? ["∅", "bad"] : this.cells.mark(row);
        const id = this.cells.text("cell_id", row);
        const label = `${id}: ${this.cells.verdict(row) ?? "not in the newest run"}`;
        return make("button", { type: "button", class: `chip ${look}`, "data-cell": id, title: label, "aria-label": label }, mark);
      }), of.length > 60 ? ` … and ${of.length - 60} more` : null)));
    return [make("h2", {}, "the newest run"), make("div", { class: "matrix" }, make("table", {}, make("tbody", {}, ...body)))];
  }
}

// A small curve on a logarithmic axis, a line where the step is.
function sparkline(values, at) {
  if (!values) return "";
  const [width, height, svg] = [120, 22, "http://www.w3.org/2000/svg"];
  const logs = values.map((value) => (asNumber(value) > 0 ? Math.log10(Math.min(asNumber(value), 1e12)) : null));
  const known = logs.filter((value) => value !== null);
  if (!known.length) return "";
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const x = (index) => (index / Math.max(values.length - 1, 1)) * (width - 4) + 2;
  const y = (value) => height - 3 - ((value - low) / (high - low || 1)) * (height - 6);
  const points = logs.map((value, index) => (value === null ? null : `${x(index).toFixed(1)},${y(value).toFixed(1)}`)).filter(Boolean);
  const picture = document.createElementNS(svg, "svg");
  picture.setAttribute("width", width);
  picture.setAttribute("height", height);
  picture.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(svg, "polyline");
  line.setAttribute("points", points.join(" "));
  line.setAttribute("style", "fill: none; stroke: var(--known); stroke-width: 1.2");
  const mark = document.createElementNS(svg, "path");
  mark.setAttribute("d", `M ${x(at).toFixed(1)} 0 V ${height}`);
  mark.setAttribute("style", "stroke: var(--bad); stroke-dasharray: 2 2");
  picture.append(line, mark);
  return picture;
}

class HistoryCell extends CellView {
  show(id) {
    const { data } = this.cells;
    const row = this.cells.places.get(id);
    if (row === undefined) {
      super.show(id);
      return;
    }
    const steps = data.steps.place.map((_, index) => index).filter((index) => named(data.steps.cell_id, index) === id);
    const told = steps.map((index) => make("li", {}, `${data.nights[data.steps.place[index]].started.slice(0, 10)} ${named(data.steps.run_id, index)}: ${named(data.steps.kind, index)} ${data.steps.before[index]} → ${data.steps.after[index]}; ${named(data.steps.changed, index)}`));
    const values = data.series[id];
    this.place.replaceChildren(
      make("h2", { id: "cell-name" }, id),
      make("div", { class: "bar" }, this.copy("copy link", () => location.href), make("button", { type: "button", onclick: () => go({ cell: null }) }, "back (Esc)")),
      make("ul", { id: "cell-steps" }, ...told),
      values ? make("div", { id: "curve", class: "plot" }) : make("p", { class: "faint" }, "no curve: it took no step, and the page has no room for all; write the page of its family"));
    if (values) this.curve(values, steps);
  }

  curve(values, steps) {
    const { data } = this.cells;
    const trace = {
      type: "scatter", mode: "lines+markers", x: data.nights.map((night) => night.started), y: values.map((value) => (asNumber(value) > 0 ? Math.min(asNumber(value), 1e12) : null)),
      text: data.nights.map((night) => `${night.run_id}: transformers ${night.transformers}, transformer_lens ${night.transformer_lens}, torch ${night.torch}`),
      hovertemplate: "%{y:.3g}<br>%{text}<extra></extra>", line: { color: colour("--known") },
    };
    const shapes = steps.map((index) => ({ type: "line", x0: data.nights[data.steps.place[index]].started, x1: data.nights[data.steps.place[index]].started, yref: "paper", y0: 0, y1: 1, line: { color: colour("--bad"), dash: "dot" } }));
    Plotly.newPlot(this.place.querySelector("#curve"), [trace], layout({ height: 360, shapes, xaxis: { type: "date" }, yaxis: { type: "log", title: { text: "what is judged, the worst of the cell" }, exponentformat: "power" } }), CONFIG);
  }
}
