"use strict";
// What the address says is what is shown: #cell=…&filter=…&verdict=… is a link to it.

function asked() {
  return new URLSearchParams(location.hash.slice(1));
}

function go(changes) {
  const address = asked();
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") address.delete(name);
    else address.set(name, value);
  }
  location.hash = address.toString();
}

async function main() {
  const data = await unpacked(document.getElementById("data").textContent);
  const cells = new Cells(data);
  const [overviewPlace, cellPlace, filter, verdict] = ["overview", "cell", "filter", "verdict"].map((id) => document.getElementById(id));
  const isHistory = data.kind === "history";
  const overview = isHistory ? new HistoryOverview(cells, overviewPlace) : new Overview(cells, overviewPlace);
  const view = isHistory ? new HistoryCell(cells, cellPlace) : new CellView(cells, cellPlace);
  const there = data.verdicts.filter((name) => cells.columns.verdict.names.includes(name));
  verdict.append(make("option", { value: "" }, "all"), make("option", {}, "not green"), ...there.map((name) => make("option", {}, name)));
  document.getElementById("headline").append(headline(cells));

  let drawn = null;
  function render() {
    const address = asked();
    const id = address.get("cell");
    const wanted = `${address.get("filter") ?? ""}\n${address.get("verdict") ?? ""}`;
    if (drawn !== wanted) {
      if (filter.value !== (address.get("filter") ?? "")) filter.value = address.get("filter") ?? "";
      verdict.value = address.get("verdict") ?? "";
      const number = overview.show(filter.value, verdict.value);
      document.getElementById("shown").textContent = `${number} of ${cells.length} cells`;
      drawn = wanted;
    }
    overviewPlace.hidden = id !== null;
    cellPlace.hidden = id === null;
    if (id === null) cellPlace.replaceChildren();
    else view.show(id);
  }

  let waiting = 0;
  filter.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => go({ filter: filter.value, cell: null }), 120);
  });
  verdict.addEventListener("change", () => go({ verdict: verdict.value, cell: null }));
  document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
  overviewPlace.addEventListener("click", (event) => {
    const chip = event.target.closest("[data-cell]");
    if (chip) go({ cell: chip.dataset.cell });
  });
  document.addEventListener("keydown", (event) => keys(event, cells, overview, filter, overviewPlace));
  window.addEventListener("hashchange", render);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
  render();
  document.body.dataset.ready = "yes";
}

function headline(cells) {
  const counted = new Map();
  let delegated = 0;
  for (let row = 0; row < cells.length; row += 1) {
    counted.set(cells.verdict(row), (counted.get(cells.verdict(row)) ?? 0) + 1);
    if (cells.isDelegated(row)) delegated += 1;
  }
  const parts = cells.data.verdicts.filter((name) => counted.has(name)).map((name) => `${MARKS[name]?.[0] ?? ""} ${counted.get(name)} ${name}`);
  const more = [delegated ? `${delegated} of them delegated` : null, cells.data.controls === undefined ? null : `${cells.data.controls} controls planted, ${cells.data.alarms.length ? `${cells.data.alarms.length} not as they should be` : "all caught"}`, cells.data.overall ?? null];
  return `${cells.length} cells: ${[...parts, ...more.filter(Boolean)].join(" · ")}`;
}

function keys(event, cells, overview, filter, place) {
  const typing = event.target instanceof Element && event.target.matches("input, select, textarea");
  if (event.key === "Escape") {
    if (asked().get("cell") !== null) go({ cell: null });
    else go({ filter: null, verdict: null });
    filter.blur();
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    event.preventDefault();
    filter.focus();
  } else if (event.key === "n" || event.key === "p") {
    next(cells, overview, event.key === "n" ? 1 : -1);
  } else if (event.key.startsWith("Arrow") && !place.hidden) {
    move(event, place);
  }
}

// The next cell that is not green, among those that match, from the one that is open.
function next(cells, overview, step) {
  const rows = overview.matching(asked().get("filter") ?? "", asked().get("verdict") ?? "").filter((row) => cells.isRed(row));
  if (!rows.length) return;
  const at = rows.indexOf(cells.places.get(asked().get("cell")));
  const to = at < 0 ? (step > 0 ? 0 : rows.length - 1) : (at + step + rows.length) % rows.length;
  go({ cell: cells.text("cell_id", rows[to]) });
}

function move(event, place) {
  const chips = [...place.querySelectorAll("[data-cell]")];
  if (!chips.length) return;
  const at = chips.indexOf(document.activeElement);
  if (at < 0) {
    chips[0].focus();
  } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    chips[at + (event.key === "ArrowRight" ? 1 : -1)]?.focus();
  } else {
    const row = chips[at].closest("tr");
    const column = [...row.querySelectorAll("[data-cell]")].indexOf(chips[at]);
    const other = event.key === "ArrowDown" ? row.nextElementSibling : row.previousElementSibling;
    const beside = other ? [...other.querySelectorAll("[data-cell]")] : [];
    beside[Math.min(column, beside.length - 1)]?.focus();
  }
  event.preventDefault();
}

main();
