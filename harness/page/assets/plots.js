"use strict";
// The pictures of one cell: layer × site, and error over layers.

const LOWEST = -4;

function layerAndName(site) {
  const found = /^(?:(encoder|decoder)_)?blocks\.(\d+)\.(.+)$/.exec(site);
  if (!found) return null;
  return { layer: Number(found[2]), name: (found[1] ? `${found[1]}.` : "") + found[3] };
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function layout(more) {
  const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line") };
  return {
    paper_bgcolor: colour("--ground"), plot_bgcolor: colour("--ground"), font: { color: colour("--ink"), size: 12 },
    margin: { l: 150, r: 20, t: 30, b: 45 }, ...more, xaxis: { ...axis, ...more.xaxis }, yaxis: { ...axis, ...more.yaxis },
  };
}

const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["toImage", "lasso2d", "select2d"] };

// A heat map of rows {site, value, words}: value 1 is what is just allowed; `first` is marked.
function heatMap(place, rows, first, title) {
  const names = [], layers = new Set();
  for (const { site } of rows) {
    const within = layerAndName(site);
    if (within) layers.add(within.layer);
    const name = within ? within.name : site;
    if (!names.includes(name)) names.push(name);
  }
  const columns = ["–", ...[...layers].sort((one, other) => one - other).map(String)];
  const z = names.map(() => columns.map(() => null));
  const text = names.map(() => columns.map(() => ""));
  let marked = null;
  for (const { site, value, words } of rows) {
    const within = layerAndName(site);
    const y = names.indexOf(within ? within.name : site);
    const x = columns.indexOf(within ? String(within.layer) : "–");
    z[y][x] = Math.max(LOWEST, Math.min(2, Math.log10(Math.max(asNumber(value), 1e-12))));
    text[y][x] = `${site}: ${words}`;
    if (site === first) marked = { x: columns[x], y: names[y] };
  }
  // One-sided, light to dark in any eyes; past what is allowed it turns.
  const allowed = -LOWEST / (2 - LOWEST);
  const scale = [[0, colour("--raised")], [allowed * 0.999, colour("--known")], [allowed, colour("--bad")], [1, colour("--bad")]];
  const trace = {
    type: "heatmap", x: columns, y: names, z, text, hovertemplate: "%{text}<extra></extra>", zmin: LOWEST, zmax: 2, colorscale: scale, xgap: 1, ygap: 1,
    colorbar: { title: { text: title, side: "right" }, tickvals: [-4, -3, -2, -1, 0, 1, 2], ticktext: ["≤1e-4", "0.001", "0.01", "0.1", "1 (allowed)", "10", "≥100"] },
  };
  const annotations = marked === null ? [] : [{ ...marked, text: "✗ first", showarrow: true, arrowcolor: colour("--ink"), bgcolor: colour("--ground"), bordercolor: colour("--bad") }];
  return Plotly.newPlot(place, [trace], layout({
    annotations, height: 90 + 22 * names.length, xaxis: { type: "category", title: { text: "layer" } }, yaxis: { type: "category", autorange: "reversed", automargin: true },
  }), CONFIG);
}

// Lines over layers, {name, x, y, dash}; on a logarithmic axis zero has no place and is left out.
function curves(place, lines, title) {
  const looks = ["--bad", "--known", "--faint", "--good"];
  const symbols = ["circle", "square", "x", "diamond"];
  const traces = lines.map((line, number) => ({
    type: "scatter", mode: "lines+markers", name: line.name, x: line.x, y: line.y.map((value) => (asNumber(value) > 0 ? asNumber(value) : null)),
    line: { color: colour(looks[number % looks.length]), dash: line.dash ?? "solid" }, marker: { symbol: symbols[number % symbols.length] },
  }));
  return Plotly.newPlot(place, traces, layout({
    height: 320, xaxis: { title: { text: "layer" }, dtick: 1 }, yaxis: { type: "log", title: { text: title }, exponentformat: "power" }, legend: { orientation: "h", y: 1.15 },
  }), CONFIG);
}
