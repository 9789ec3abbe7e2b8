"use strict";
const frames = JSON.parse(document.getElementById("data").textContent);
const sheet = document.getElementById("cards");
const large = document.getElementById("large");
const buttons = [...document.querySelectorAll("nav button")];
let shown = [];
let current = -1;

function element(tag, text, parent) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function numbers(frame) {
  if (frame.kept_pct === null) return "";
  return `${frame.kept_pct.toFixed(1)} % kept, ${frame.valid_pct.toFixed(1)} % matched`;
}

function fill(parent, frame, captions) {
  const head = element("h2", frame.name, parent);
  element("span", numbers(frame), head);
  if (frame.pictures.length) {
    const strip = element("div", "", parent);
    strip.className = frame.wide && !captions ? "strip wide" : "strip";
    const names = ["left", `disparity, red is ${frame.largest_px} px`, "confidence, white is 1"];
    frame.pictures.forEach((source, place) => {
      const figure = captions ? element("figure", "", strip) : strip;
      const image = element("img", "", figure);
      image.src = source;
      image.alt = `${names[place]} of ${frame.name}`;
      if (captions) element("figcaption", names[place], figure);
    });
  }
  if (frame.reason) {
    const told = frame.detail && frame.detail !== frame.reason ? `: ${frame.detail}` : "";
    element("p", `${frame.group}, ${frame.reason}${told}`, parent).className = "reason";
  }
}

const cards = frames.map((frame) => {
  const card = element("article", "", sheet);
  card.dataset.group = frame.group;
  fill(card, frame, false);
  card.addEventListener("click", () => { go(shown.indexOf(card)); open(); });
  return card;
});

function filter(group, reason) {
  shown = cards.filter((card, place) => {
    const wanted = !group || (frames[place].group === group && frames[place].reason === reason);
    card.hidden = !wanted;
    return wanted;
  });
  for (const button of buttons) {
    const pressed = button.dataset.group === group && button.dataset.reason === reason;
    button.setAttribute("aria-pressed", String(pressed));
  }
  document.getElementById("none").hidden = shown.length > 0;
  current = -1;
  for (const card of cards) card.classList.remove("current");
}

function go(place) {
  if (!shown.length || place < 0 || place >= shown.length) return;
  if (current >= 0) shown[current].classList.remove("current");
  current = place;
  shown[current].classList.add("current");
  shown[current].scrollIntoView({ block: "nearest" });
  if (large.open) draw();
}

function draw() {
  large.replaceChildren();
  fill(large, frames[cards.indexOf(shown[current])], true);
}

function open() {
  if (current < 0) return;
  draw();
  if (!large.open) large.showModal();
}

buttons.forEach((button) => {
  button.addEventListener("click", () => filter(button.dataset.group, button.dataset.reason));
});
large.addEventListener("click", () => large.close());
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "ArrowRight" || event.key === "j") go(current + 1);
  else if (event.key === "ArrowLeft" || event.key === "k") go(current - 1);
  else if (event.key === "Enter" && event.target.tagName !== "BUTTON") open();
  else return;
  event.preventDefault();
});
filter("", "");
