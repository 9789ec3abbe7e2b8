/* Pictures: all zoom and move together; two of them on top of each other with a line to drag. */
(() => {
  const { byId } = report;
  const section = byId("pictures");
  if (!section) return;
  const view = { zoom: 1, x: 0, y: 0 };
  const scenes = [...section.querySelectorAll("details.scene")];
  const chooser = byId("show-variant"), a = byId("swipe-a"), b = byId("swipe-b"), layer = byId("swipe-layer");
  const scene = byId("swipe-scene"), line = byId("swipe-at"), stage = section.querySelector(".stage");

  /* Positions are shares of a picture's size, so that pictures of any size show the same part. */
  function move(values) {
    Object.assign(view, values);
    view.zoom = Math.min(12, Math.max(1, view.zoom));
    const least = 1 - view.zoom;
    view.x = Math.min(0, Math.max(least, view.x));
    view.y = Math.min(0, Math.max(least, view.y));
    section.style.setProperty("--zoom", view.zoom);
    section.style.setProperty("--x", `${100 * view.x}%`);
    section.style.setProperty("--y", `${100 * view.y}%`);
    byId("zoom").value = String(view.zoom);
  }

  function zoomAt(factor, atX, atY) {
    const zoom = Math.min(12, Math.max(1, view.zoom * factor)), ratio = zoom / view.zoom;
    move({ zoom, x: atX - (atX - view.x) * ratio, y: atY - (atY - view.y) * ratio });
  }

  function shareIn(frame, event) {
    const box = frame.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  function listen(frame) {
    frame.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      zoomAt(event.deltaY < 0 ? 1.25 : 0.8, ...shareIn(frame, event));
    }, { passive: false });
    frame.addEventListener("pointerdown", (event) => {
      if (view.zoom === 1) {
        if (frame === stage) dragLine(event);
        return;
      }
      event.preventDefault();
      frame.focus();
      frame.setPointerCapture(event.pointerId);
      const box = frame.getBoundingClientRect(), from = { ...view, at: [event.clientX, event.clientY] };
      const drag = (step) => move({ x: from.x + (step.clientX - from.at[0]) / box.width, y: from.y + (step.clientY - from.at[1]) / box.height });
      frame.addEventListener("pointermove", drag);
      frame.addEventListener("pointerup", () => frame.removeEventListener("pointermove", drag), { once: true });
    });
    frame.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
      if (event.key === "+" || event.key === "=") zoomAt(1.25, 0.5, 0.5);
      else if (event.key === "-") zoomAt(0.8, 0.5, 0.5);
      else if (event.key === "0" || event.key === "Escape") move({ zoom: 1 });
      else if (steps[event.key] && view.zoom > 1) move({ x: view.x + steps[event.key][0], y: view.y + steps[event.key][1] });
      else return;
      event.preventDefault();
    });
  }

  /* Of whole pictures, a drag moves the line instead. */
  function dragLine(event) {
    event.preventDefault();
    stage.setPointerCapture(event.pointerId);
    const follow = (step) => {
      line.value = String(100 * shareIn(stage, step)[0]);
      stage.style.setProperty("--at", `${line.value}%`);
    };
    follow(event);
    stage.addEventListener("pointermove", follow);
    stage.addEventListener("pointerup", () => stage.removeEventListener("pointermove", follow), { once: true });
  }

  /* One variant with what it is to be seen beside: truth, references, its FP32 variant. */
  function filter() {
    const own = chooser.value && section.querySelector(`figure[data-shot="${chooser.value}"]`);
    for (const figure of section.querySelectorAll("figure.pair")) {
      const { shot, role } = figure.dataset;
      figure.hidden = Boolean(own) && shot !== "given" && role !== "reference" && shot !== chooser.value
        && shot !== own.dataset.beside;
    }
    if (own) {
      b.value = chooser.value;
      if (own.dataset.beside && own.dataset.beside !== chooser.value) a.value = own.dataset.beside;
      swipe();
    }
  }

  function picture(shot) {
    const figures = scenes[Number(scene.value)];
    const own = shot === "left" || shot === "truth";
    const figure = figures.querySelector(`figure[data-shot="${own ? "given" : shot}"]`);
    return figure?.querySelector(`img[data-layer="${own ? shot : layer.value}"]`);
  }

  function swipe() {
    const pair = [picture(a.value), picture(b.value)];
    for (const [image, source] of [[byId("swipe-above"), pair[0]], [byId("swipe-below"), pair[1]]]) {
      image.hidden = !source;
      if (source) {
        image.src = source.src;
        image.alt = source.alt;
      }
    }
    const words = pair.map((source) => (source ? source.alt : "no picture of this one"));
    byId("swipe-caption").textContent = `Left of the line: ${words[0]}. Right of it: ${words[1]}.`;
    stage.style.setProperty("--at", `${line.value}%`);
  }

  function fill() {
    const names = new Map();
    for (const figure of section.querySelectorAll("figure[data-name]")) names.set(figure.dataset.shot, figure.dataset.name);
    const shots = [...names].map(([shot, name]) => [shot, `${shot} ${name}`]);
    for (const [shot, name] of shots) chooser.add(new Option(name, shot));
    for (const choice of [a, b]) {
      for (const [shot, name] of [...shots, ["truth", "true disparity"], ["left", "left image"]]) choice.add(new Option(name, shot));
    }
    a.value = "truth";
    /* The most accurate of the first image, as the page's first answer about failures. */
    const first = [...scenes[0].querySelectorAll('figure[data-role="variant"]')].filter((figure) => figure.dataset.epe);
    first.sort((x, y) => Number(x.dataset.epe) - Number(y.dataset.epe));
    b.value = (first[0] ?? scenes[0].querySelector("figure[data-name]")).dataset.shot;
    scenes.forEach((item, index) => scene.add(new Option(`${item.dataset.image} (${item.dataset.dataset})`, String(index))));
    for (const link of document.querySelectorAll("a.to-pictures")) {
      link.hidden = !names.has(link.dataset.n);
      link.addEventListener("click", () => {
        chooser.value = link.dataset.n;
        filter();
      });
    }
  }

  fill();
  for (const frame of section.querySelectorAll(".frame")) listen(frame);
  byId("zoom").addEventListener("input", (event) => zoomAt(Number(event.target.value) / view.zoom, 0.5, 0.5));
  byId("unzoom").addEventListener("click", () => move({ zoom: 1 }));
  chooser.addEventListener("change", filter);
  for (const choice of [a, b, layer, scene]) choice.addEventListener("change", swipe);
  line.addEventListener("input", swipe);
  byId("picture-tools").hidden = false;
  byId("swipe").hidden = false;
  move({});
  swipe();
})();
