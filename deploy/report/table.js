/* The table: sorted by any column, filtered by words and choices, downloaded as it stands. */
(() => {
  const { data, state, byId, errorOf } = report;
  const table = byId("variants"), body = table.tBodies[0];
  const rows = [...body.rows];
  const entryOf = new Map(data.entries.map((entry) => [String(entry.n), entry]));
  const filters = { precision: byId("only-precision"), runtime: byId("only-runtime"), kind: byId("only-kind") };
  let sort = { by: "n", down: false };

  function key(row) {
    const entry = entryOf.get(row.dataset.n);
    if (sort.by === "n") return entry.n;
    if (sort.by === "name") return entry.label.toLowerCase();
    if (sort.by === "0") return errorOf(entry);
    const value = row.cells[Number(sort.by) + 2].dataset.value;
    return value === undefined ? null : Number(value);
  }

  /* What has no value stays at the end, whichever way the rest is sorted. */
  function order(a, b) {
    const [x, y] = [key(a), key(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    const way = x < y ? -1 : x > y ? 1 : 0;
    return sort.down ? -way : way;
  }

  function visible(row) {
    const entry = entryOf.get(row.dataset.n);
    if (!byId("everywhere").checked && entry.place !== state.place) return false;
    for (const [name, choice] of Object.entries(filters)) {
      if (choice.value && String(entry[name]) !== choice.value) return false;
    }
    const text = row.textContent.toLowerCase();
    return byId("find").value.toLowerCase().split(/\s+/).every((word) => text.includes(word));
  }

  function show() {
    rows.sort(order);
    body.append(...rows);
    let count = 0;
    for (const row of rows) {
      row.hidden = !visible(row);
      if (!row.hidden) count += 1;
    }
    byId("count").textContent = `${count} of ${rows.length} rows`;
    for (const head of table.tHead.rows[0].cells) {
      const button = head.querySelector("button");
      if (button.dataset.sort === sort.by) head.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }

  function csv() {
    const shown = rows.filter((row) => !row.hidden);
    return data.csv.head + shown.flatMap((row) => data.csv.lines[row.dataset.n]).join("");
  }

  function download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "results.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  for (const [name, choice] of Object.entries(filters)) {
    for (const value of [...new Set(data.entries.map((entry) => String(entry[name])))].sort()) {
      choice.add(new Option(value === "null" ? "none" : value, value));
    }
    choice.addEventListener("change", show);
  }
  for (const button of table.tHead.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      sort = { by: button.dataset.sort, down: sort.by === button.dataset.sort && !sort.down };
      show();
    });
  }
  byId("everywhere").parentElement.hidden = data.places.length < 2;
  byId("everywhere").addEventListener("change", show);
  byId("find").addEventListener("input", show);
  byId("csv").addEventListener("click", download);
  report.listeners.push(show);
})();
