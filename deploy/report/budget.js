/* Which variant fits a frame rate: the words are those of deploy/report/verdict.py. */
(() => {
  const { data, state, byId, number, metricName, errorOf, latencyOf, here, front } = report;
  const slider = byId("fps"), box = byId("fps-number"), answer = byId("answer");
  const RATES = [5, 10, 15, 30, 60];
  const LOW = Math.log10(0.5), HIGH = Math.log10(500);

  const toSlider = (fps) => Math.round(1000 * (Math.log10(fps) - LOW) / (HIGH - LOW));
  const toFps = (position) => Number((10 ** (LOW + (HIGH - LOW) * position / 1000)).toPrecision(position < 400 ? 2 : 3));

  function told(entry) {
    const name = metricName(), unit = name.split(" ").pop();
    const bar = entry.low === null ? "" : `; ${number(entry.low)} to ${number(entry.high)} ms`;
    return `${entry.n} ${entry.label} with ${number(latencyOf(entry))} ms (${number(1000 / latencyOf(entry))} fps${bar}), `
      + `${name.slice(0, -unit.length - 1)} ${number(errorOf(entry))} ${unit}`;
  }

  /* What to know of the entries that a sentence rests on. */
  function care(entries) {
    const numbers = new Map();
    for (const entry of entries) {
      for (const caveat of entry.caveats) numbers.set(caveat, [...(numbers.get(caveat) ?? []), entry.n]);
    }
    return [...numbers].map(([caveat, of]) => ` Read ${of.join(", ")} with care: ${caveat}.`).join("");
  }

  function sentence(kind) {
    const timed = here().filter((entry) => entry.role === "variant" && entry.kind === kind && latencyOf(entry) !== null);
    if (!timed.length) return "";
    const best = front(here(), kind);
    if (!best.length) {
      const fastest = timed.reduce((a, b) => (latencyOf(b) < latencyOf(a) ? b : a));
      return `the fastest is ${fastest.n} ${fastest.label} with ${number(latencyOf(fastest))} ms; `
        + `accuracy was not measured on all images.${care([fastest])}`;
    }
    const budget = 1000 / state.fps;
    const rate = `${number(state.fps)} fps (${number(budget)} ms per pair)`;
    const within = best.filter((entry) => latencyOf(entry) <= budget);
    const beyond = best.filter((entry) => latencyOf(entry) > budget);
    if (!within.length) return `no variant reaches ${rate}; the fastest is ${told(best[0])}.${care([best[0]])}`;
    const chosen = within[within.length - 1];
    const late = (chosen.high ?? 0) > budget ? " It may miss that: the error bar reaches beyond." : "";
    const text = `at ${rate}, take ${told(chosen)}.${late}`;
    if (!beyond.length) return `${text} None is more accurate.${care([chosen])}`;
    const unit = metricName().split(" ").pop();
    return `${text} The next better, ${told(beyond[0])}, costs ${number(latencyOf(beyond[0]) - latencyOf(chosen))} ms more `
      + `for ${number(errorOf(chosen) - errorOf(beyond[0]))} ${unit} less.${care([chosen, beyond[0]])}`;
  }

  /* The names of variants stand out. */
  function write(text) {
    answer.replaceChildren();
    const names = here().map((entry) => `${entry.n} ${entry.label}`).filter((name) => text.includes(name));
    names.sort((x, y) => text.indexOf(x) - text.indexOf(y));
    for (const name of names) {
      const at = text.indexOf(name);
      if (at < 0) continue;
      const strong = document.createElement("strong");
      strong.textContent = name;
      answer.append(text.slice(0, at), strong);
      text = text.slice(at + name.length);
    }
    answer.append(text);
  }

  const rates = RATES.map((fps) => {
    const button = document.createElement("button");
    button.type = "button";
    button.addEventListener("click", () => report.change({ fps }));
    byId("rates").append(button);
    return [fps, button];
  });

  /* A button for each common rate, with the number of its best variant. */
  function showRates() {
    const best = front(here(), front(here(), "measured").length ? "measured" : "estimated");
    for (const [fps, button] of rates) {
      const within = best.filter((entry) => latencyOf(entry) <= 1000 / fps);
      button.textContent = `${fps} fps: ${within.length ? within[within.length - 1].n : "none"}`;
      button.setAttribute("aria-pressed", String(fps === state.fps));
    }
  }

  function show() {
    const texts = ["measured", "estimated"].map((kind) => [kind, sentence(kind)]).filter(([, text]) => text);
    const words = texts.map(([kind, text]) => (kind === "measured" ? text : `estimated, not measured: ${text}`)).join(" ");
    write(words || "latency was not measured here.");
    const onBoard = data.places.length > 1 ? ` on ${data.places[state.place]}` : "";
    byId("question").textContent = `Which variant for ${Number(state.fps.toPrecision(3))} fps${onBoard}?`;
    slider.setAttribute("aria-valuetext", `${Number(state.fps.toPrecision(3))} frames per second`);
    slider.value = String(toSlider(state.fps));
    if (document.activeElement !== box) box.value = String(Number(state.fps.toPrecision(3)));
    showRates();
    for (const row of document.querySelectorAll("tr.chosen")) row.classList.remove("chosen");
    for (const kind of ["measured", "estimated"]) {
      const within = front(here(), kind).filter((entry) => latencyOf(entry) <= 1000 / state.fps);
      if (within.length) byId(`row-${within[within.length - 1].n}`)?.classList.add("chosen");
    }
  }

  slider.addEventListener("input", () => report.change({ fps: toFps(Number(slider.value)) }));
  box.addEventListener("input", () => {
    const fps = Number(box.value);
    if (fps > 0 && Number.isFinite(fps)) report.change({ fps });
  });
  byId("by-p99").addEventListener("change", (event) => report.change({ p99: event.target.checked }));
  byId("budget").hidden = false;
  answer.hidden = false;
  byId("static-answer").hidden = true;
  report.listeners.push(show);
})();
