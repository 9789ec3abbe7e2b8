"use strict";
/* What the reader chose, and who wants to know when it changes. The other scripts hang on to this one. */
const report = (() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const state = { place: 0, dataset: 0, metric: "epe_px", fps: data.fps, p99: false, sizeBy: "" };
  const listeners = [];

  function change(values) {
    Object.assign(state, values);
    for (const listener of listeners) listener();
  }

  /* A number with so many significant digits, never in exponent form: as deploy/report/text.py writes it. */
  function number(value, digits = 3) {
    if (value === null || value === undefined) return "not measured";
    if (value === 0) return "0";
    const exponent = Number(value.toExponential(digits - 1).split("e")[1]);
    return value.toFixed(Math.max(0, digits - 1 - exponent));
  }

  const metricName = () => data.metrics.find(([key]) => key === state.metric)[1];
  const errorOf = (entry) => entry.accuracy[state.dataset]?.errors[state.metric] ?? null;
  const latencyOf = (entry) => (state.p99 ? entry.p99 : entry.p50);
  const here = () => data.entries.filter((entry) => entry.place === state.place);

  /* The variants of one kind that have both numbers and that no other beats, fastest first. */
  function front(entries, kind) {
    const both = entries.filter((entry) => entry.role === "variant" && entry.kind === kind
      && latencyOf(entry) !== null && errorOf(entry) !== null);
    both.sort((a, b) => latencyOf(a) - latencyOf(b) || errorOf(a) - errorOf(b));
    const kept = [];
    for (const entry of both) {
      if (!kept.length || errorOf(entry) < (1 - data.leastGain) * errorOf(kept[kept.length - 1])) kept.push(entry);
    }
    return kept;
  }

  function showOptions() {
    for (const option of document.querySelectorAll(".option")) {
      const { key } = option.dataset;
      option.classList.toggle("on", key === `${state.dataset}:${state.metric}` || key === state.metric
        || key === `d${state.dataset}`);
    }
    for (const button of document.querySelectorAll("button[data-metric]")) {
      button.setAttribute("aria-pressed", String(button.dataset.metric === state.metric));
    }
  }

  /* A link to an entry opens it. */
  function openTarget() {
    const target = byId(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) target.open = true;
  }

  for (const button of document.querySelectorAll("button[data-metric]")) {
    button.addEventListener("click", () => change({ metric: button.dataset.metric }));
  }
  byId("place").addEventListener("change", (event) => change({ place: event.target.selectedIndex }));
  byId("dataset")?.addEventListener("change", (event) => change({ dataset: event.target.selectedIndex }));
  byId("place").parentElement.hidden = data.places.length < 2;
  window.addEventListener("hashchange", openTarget);
  openTarget();
  listeners.push(showOptions);
  return { data, state, change, listeners, byId, number, metricName, errorOf, latencyOf, here, front };
})();
