import {at, read, reuses, show, working} from "/static/own/working.js";

const form = at("form"), film = at("film"), frame = at("frame"), when = at("when"), play = at("play");
const way = () => form.elements.way.value ?? "between";
let frames = [], timer = 0, waiting = 0;

function choose() {
  for (const part of form.querySelectorAll("[data-way]")) part.hidden = !part.dataset.way.split(" ").includes(way());
}
form.addEventListener("change", choose);
choose();

function look() {
  frame.src = frames[when.value];
  when.nextElementSibling.value = +when.value + 1;
}
when.addEventListener("input", look);
play.addEventListener("click", () => {
  play.textContent = timer ? "play" : "pause";
  if (timer) return clearInterval(timer), timer = 0;
  timer = setInterval(() => { when.value = (+when.value + 1) % frames.length; look(); }, 120);
});

const begin = working("/explore", () => {
  const strengths = [...form.querySelectorAll(".strength")].map(slider => +slider.value);
  return {...read(form), ...(way() === "walk" ? {strengths} : {})};
}, ({pictures}) => {
  const between = way() === "between";
  film.hidden = !between;
  if (between) {
    frames = pictures.map(({url}) => url);
    when.max = frames.length - 1;
    look();
  }
  show(at("out"), between ? [] : pictures);
});
reuses(form, ({strengths = []}) => form.querySelectorAll(".strength").forEach((slider, i) => {
  slider.value = strengths[i] ?? 0;
  slider.parentNode.querySelector("output").value = slider.value;
}));
for (const slider of form.querySelectorAll(".strength")) {
  slider.addEventListener("input", () => {
    clearTimeout(waiting);
    const again = () => at("go").disabled ? waiting = setTimeout(again, 60) : begin();
    waiting = setTimeout(again, 60);
  });
}
