import {at, say} from "/static/own/working.js";

const run = document.querySelector("input[name=run]").value, EVERY = 2000;
const charts = new Map();
let step = -1, shown = "";

const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
function make(name, data, logarithmic) {
  const place = document.createElement("div");
  place.className = "chart";
  at("curves").append(place);
  const axis = {stroke: style("--faint"), grid: {stroke: style("--line"), width: 1}, ticks: {stroke: style("--line")}};
  const log = logarithmic && data[1].every(value => value > 0);
  const chart = new uPlot({
    title: name, width: place.clientWidth - 18, height: 220, legend: {live: true},
    scales: {x: {time: false}, y: {distr: log ? 3 : 1}},
    series: [{label: "step"}, {label: "value", stroke: style("--accent"), width: 1.5, points: {show: data[0].length < 3}}],
    axes: [axis, {...axis, size: 64}],
  }, data, place);
  charts.set(name, chart);
}
function draw(curves, anew = false) {
  if (anew) { charts.forEach(chart => chart.destroy()); charts.clear(); at("curves").replaceChildren(); }
  for (const name in curves) {
    const data = [curves[name].map(point => point[0]), curves[name].map(point => point[1])];
    if (charts.has(name)) charts.get(name).setData(data);
    else make(name, data, at("logarithmic").checked);
  }
}
function grids(names) {
  if (names.join() === shown) return;
  shown = names.join();
  at("grids").replaceChildren(...names.map(name => {
    const figure = document.createElement("figure"), image = new Image(), caption = document.createElement("figcaption");
    Object.assign(image, {src: `/training/${run}/grids/${name}`, alt: `grid of step ${parseInt(name)}`, className: "pixels"});
    caption.textContent = `step ${parseInt(name)}`;
    figure.append(image, caption);
    return figure;
  }));
  at("grids").scrollLeft = at("grids").scrollWidth;
}
function health(words, healthy) {
  const now = healthy ? `nothing is out of its limits${words.length ? " now; earlier:" : ""}` : "out of limits:";
  const items = [now, ...words];
  at("health").replaceChildren(...items.map(text => Object.assign(document.createElement("li"), {textContent: text})));
}
let curves = {};
async function look() {
  try {
    const state = await (await fetch(`/training/${run}`)).json();
    const ago = state.when ? Math.max(0, Math.round(Date.now() / 1000 - state.when)) : null;
    if (state.step !== step) {
      ({step, curves} = state);
      draw(curves);
      health(state.health, state.healthy);
    }
    grids(state.grids);
    if (state.steps) Object.assign(at("bar"), {max: state.steps, value: state.step});
    say(`step ${state.step} of ${state.steps ?? "?"}` + (ago === null ? "" : `, written ${ago} s ago`));
  } catch { say("the server does not answer", true); }
  setTimeout(look, EVERY);
}
at("logarithmic").addEventListener("change", () => draw(curves, true));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(curves, true));
addEventListener("resize", () => charts.forEach(chart => chart.setSize({width: chart.root.parentNode.clientWidth - 18, height: 220})));
addEventListener("load", look);
