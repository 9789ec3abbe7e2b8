/* Latency against error of one place: a point for each variant, lines for references without latency. */
(() => {
  const { data, state, byId, number, metricName, errorOf, latencyOf, here, front } = report;
  /* Okabe and Ito's colours, which people tell apart whatever colours they see; symbols say the same once more. */
  const LOOKS = { fp32: ["#0072b2", "circle"], fp16: ["#009e73", "square"], int8: ["#d55e00", "diamond"],
    mixed: ["#cc79a7", "cross"] };
  const OTHER = ["#56646f", "triangle-up"];
  const FADED = "59"; /* as the last two digits of a colour: 35 % */
  const INK = "#1f2733", GRID = "#e6e9ee", SOFT = "#5b6470";
  const options = { responsive: true, displaylogo: false, displayModeBar: false };
  const plot = byId("plot");
  let shown = "", drawn = [];

  /* Plotly reads a little HTML in its texts. */
  const escape = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function hover(entry) {
    const bar = entry.low === null ? "" : ` (${number(entry.low)} to ${number(entry.high)} ms)`;
    const lines = [`<b>${entry.n} ${escape(entry.label)}</b>`, entry.kind === "estimated"
      ? `estimated ${number(entry.p50)} ms${bar}`
      : `p50 ${number(entry.p50)} ms, p99 ${number(entry.p99)} ms, n = ${entry.runs}`,
      `${metricName()} ${number(errorOf(entry))}${escape(entry.accuracy[state.dataset].coverage)}`, entry.kind];
    if (entry.memory !== null) lines.push(`memory ${number(entry.memory)} MB`);
    if (entry.energy !== null) lines.push(`${number(entry.energy)} J per pair`);
    if (entry.accuracyFrom) lines.push(`accuracy measured with ${escape(entry.accuracyFrom)}`);
    return [...lines, ...entry.setting.map(escape)].join("<br>");
  }

  function sizes(entries) {
    const values = entries.map((entry) => entry[state.sizeBy] ?? null);
    const top = Math.max(...values.map((value) => value ?? 0)) || 1;
    return values.map((value) => (state.sizeBy === "" ? 14 : value === null ? 8 : 8 + 26 * Math.sqrt(Math.max(0, value) / top)));
  }

  function trace(name, look, entries, best, allSizes, names) {
    const estimated = entries[0].kind === "estimated";
    const up = entries.map((entry) => Math.max(0, entry.high ?? entry.p99 ?? entry.p50) - entry.p50);
    const down = entries.map((entry) => (entry.low === null || entry.low === undefined ? 0 : entry.p50 - entry.low));
    const colours = entries.map((entry) => look[0] + (best.has(entry.n) || entry.role === "reference" ? "" : FADED));
    return {
      type: "scatter", mode: "markers+text", name, x: entries.map(latencyOf), y: entries.map(errorOf),
      text: entries.map((entry) => names.get(entry.n)),
      textposition: "top center", textfont: { color: INK, size: 12 },
      hovertext: entries.map(hover), hoverinfo: "text", customdata: entries.map((entry) => entry.n),
      marker: {
        size: entries.map((entry) => allSizes.get(entry.n)), color: colours, symbol: look[1] + (estimated ? "-open" : ""),
        line: { color: estimated ? colours : "#ffffff", width: estimated ? 2 : 1.5 },
      },
      error_x: state.p99 ? undefined : { type: "data", symmetric: false, array: up, arrayminus: down, color: look[0],
        thickness: 1, width: 3 },
    };
  }

  /* Entry → text at its point; points that lie on each other share one, such as "7, 8". Of many points, only those
     that no other beats are named. */
  function labels(points, best) {
    const scale = latencyAxis(points), top = Math.max(...points.map(errorOf)) || 1;
    const across = (entry) => ((scale.type === "log" ? Math.log10(latencyOf(entry)) : latencyOf(entry)) - scale.range[0])
      / (scale.range[1] - scale.range[0]);
    const names = new Map(points.map((entry) => [entry.n, ""])), owners = [];
    const named = points.length > 20 ? points.filter((entry) => best.has(entry.n)) : points;
    for (const entry of [...named].sort((x, y) => latencyOf(x) - latencyOf(y))) {
      const owner = owners.find((other) => across(entry) - across(other) < 0.03
        && Math.abs(errorOf(entry) - errorOf(other)) < 0.05 * top);
      if (owner) names.set(owner.n, `${names.get(owner.n)}, ${entry.n}`);
      else {
        owners.push(entry);
        names.set(entry.n, String(entry.n));
      }
    }
    return names;
  }

  function frontLine(entries, kind) {
    return { type: "scatter", mode: "lines", x: entries.map(latencyOf), y: entries.map(errorOf), hoverinfo: "skip",
      showlegend: false, line: { shape: "hv", color: SOFT, width: 1.5, dash: kind === "estimated" ? "dot" : "solid" } };
  }

  function axis(title) {
    return { title: { text: title }, gridcolor: GRID, linecolor: "#9aa3af", zeroline: false, automargin: true };
  }

  /* From zero, or logarithmic with ticks at 1, 2 and 5 where latencies lie far apart. */
  function latencyAxis(entries) {
    const times = entries.flatMap((entry) => [entry.low ?? latencyOf(entry), latencyOf(entry), entry.high ?? entry.p99 ?? entry.p50]);
    const low = Math.min(...times), high = Math.max(...times);
    if (!times.length || low <= 0 || high / low < 8) return { range: [0, 1.12 * (times.length ? high : 1)] };
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.ceil(Math.log10(high)) + 1; power += 1) {
      for (const step of [1, 2, 5]) ticks.push(Number((step * 10 ** power).toPrecision(1)));
    }
    return { type: "log", range: [Math.log10(low / 1.4), Math.log10(high * 1.4)], tickvals: ticks, ticktext: ticks.map(String) };
  }

  function referenceLines() {
    const lines = data.entries.filter((entry) => entry.role === "reference" && errorOf(entry) !== null
      && (entry.p50 === null || entry.place !== state.place));
    return lines.map((entry) => ({ entry, level: errorOf(entry),
      elsewhere: entry.place === state.place ? "" : `, ${data.places[entry.place]}` }));
  }

  /* While only the budget moves, so do its lines; all else is drawn anew. */
  function show() {
    const { place, dataset, metric, p99, sizeBy } = state, key = JSON.stringify([place, dataset, metric, p99, sizeBy]);
    if (key !== shown) draw();
    else if (drawn.length) {
      const { shapes, annotations } = layout(drawn);
      Plotly.relayout(plot, { shapes, annotations });
    }
    shown = key;
  }

  function draw() {
    const points = here().filter((entry) => latencyOf(entry) !== null && errorOf(entry) !== null);
    const missing = here().filter((entry) => entry.accuracy[state.dataset]?.why.length);
    byId("left-out").textContent = missing.length
      ? `Not in the chart: ${missing.map((entry) => `${entry.n} ${entry.label}: ${entry.accuracy[state.dataset].why.join(", ")}`).join("; ")}.`
      : "";
    plot.hidden = points.length === 0;
    drawn = [];
    byId("chart-note").textContent = points.length ? "" : "Nothing to draw: it takes latency and error of one variant.";
    if (!points.length) return;
    const traces = [], best = new Set(), sized = sizes(points);
    const allSizes = new Map(points.map((entry, index) => [entry.n, sized[index]]));
    for (const kind of ["measured", "estimated"]) {
      const line = front(here(), kind);
      line.forEach((entry) => best.add(entry.n));
      if (line.length > 1) traces.push(frontLine(line, kind));
    }
    const names = labels(points, best), groups = new Map();
    for (const entry of points) {
      const name = `${entry.role === "reference" ? "reference" : (entry.precision ?? "no precision")}, ${entry.kind}`;
      groups.set(name, [...(groups.get(name) ?? []), entry]);
    }
    for (const [name, entries] of [...groups].sort((a, b) => (a[0] < b[0] ? -1 : 1))) {
      /* The legend shows a group as its first point is drawn: one that is not faded, where there is one. */
      entries.sort((x, y) => best.has(y.n) - best.has(x.n));
      const look = entries[0].role === "reference" ? OTHER : (LOOKS[entries[0].precision] ?? OTHER);
      traces.push(trace(escape(name), look, entries, best, allSizes, names));
    }
    Plotly.newPlot(plot, traces, layout(points), options).then(() => {
      plot.on("plotly_click", (event) => { location.hash = `entry-${event.points[0].customdata}`; });
    });
    drawn = points;
  }

  function layout(points) {
    const lines = referenceLines(), scale = latencyAxis(points), budget = 1000 / state.fps;
    const at = scale.type === "log" ? Math.log10(budget) : budget;
    const inside = at > scale.range[0] && at < scale.range[1];
    const top = Math.max(...points.map(errorOf), ...lines.map((line) => line.level)) || 1;
    const shapes = lines.map(({ level }) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: level, y1: level,
      line: { color: SOFT, width: 1.5, dash: "dash" } }));
    const notes = lines.map(({ entry, level, elsewhere }) => ({ xref: "paper", x: 1, xanchor: "right", y: level,
      yanchor: "bottom", showarrow: false, font: { color: SOFT, size: 12 },
      text: escape(`${entry.n} ${entry.label}${entry.accuracy[state.dataset].coverage}${elsewhere}`) }));
    if (inside) {
      shapes.push({ type: "line", yref: "paper", y0: 0, y1: 1, x0: budget, x1: budget, line: { color: INK, width: 1.5, dash: "dot" } });
      notes.push({ x: at, yref: "paper", y: 1, yanchor: "top", xanchor: "left", showarrow: false,
        text: ` ${number(state.fps)} fps`, font: { color: INK, size: 12 } });
    }
    return {
      margin: { l: 56, r: 16, t: 12, b: 48 }, height: 440, paper_bgcolor: "#ffffff", plot_bgcolor: "#ffffff",
      font: { family: "system-ui, sans-serif", size: 13, color: INK },
      hoverlabel: { bgcolor: "#ffffff", bordercolor: "#9aa3af", align: "left", font: { color: INK } },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, showlegend: true,
      xaxis: { ...axis(`latency ${state.p99 ? "p99" : "p50"} per pair, ms (faster is left)`), ...scale },
      yaxis: { ...axis(`${metricName()} (better is down)`), range: [0, 1.15 * top] }, shapes, annotations: notes,
    };
  }

  byId("size-by").addEventListener("change", (event) => report.change({ sizeBy: event.target.value }));
  report.listeners.push(show);
  show();
  performance.mark("drawn");
  document.documentElement.dataset.ready = "yes";
})();
