// What the pages of the playground share: a form that begins a job, its progress, and the pictures that come of it.
import {at, say, send, showValues, watch} from "/static/site.js";

export {at, say, send};

// Reads a form as numbers, texts and booleans, without what is hidden or empty.
export function read(form) {
  const found = {};
  for (const field of form.elements) {
    if (!field.name || field.closest("[hidden]") || (field.type === "radio" && !field.checked)) continue;
    if (field.type === "checkbox") found[field.name] = field.checked;
    else if (field.value === "") continue;
    else found[field.name] = isNaN(field.value) || ["textarea", "text"].includes(field.type) ? field.value : +field.value;
  }
  return found;
}

// Fills a form with settings that a picture holds.
export function fill(form, settings) {
  const names = {...settings, steps: settings.solver_steps, step: undefined, n: 1};
  for (const field of form.elements) {
    const value = names[field.name];
    if (value === undefined || field.type === "hidden") continue;
    if (field.type === "radio") field.checked = field.value === String(value);
    else field.value = value;
    field.dispatchEvent(new Event("input", {bubbles: true}));
  }
}

// Shows pictures, each with its seed and a link to its file.
export function show(place, pictures) {
  place.replaceChildren(...pictures.map(({name, url, seed}) => {
    const figure = document.createElement("figure"), image = new Image(), caption = document.createElement("figcaption");
    Object.assign(image, {src: url, alt: `picture of seed ${seed}`, className: "pixels"});
    caption.textContent = `seed ${seed}`;
    figure.append(image, caption);
    if (name) {
      const link = document.createElement("a");
      Object.assign(link, {href: `/gallery/${name}`, download: name, textContent: "download"});
      caption.append(", ", link);
    }
    return figure;
  }));
}

// Makes a form begin jobs: `asks` reads what to send, `shows` gets what "done" tells. Returns a function that begins one.
export function working(path, asks, shows) {
  const form = at("form"), go = at("go"), stop = at("stop"), bar = at("bar"), seen = at("seen");
  let job = null;
  showValues(form);
  const on = {
    waiting: ({ahead}) => say(ahead ? `${ahead} ahead in the queue` : "next in the queue"),
    opening: ({run}) => say(`opening ${run}`),
    progress: ({step, of}) => {
      if (!of) return;
      Object.assign(bar, {max: of, value: step});
      say(of > 1 ? `step ${step} of ${of}` : "drawing");
    },
    seen: ({sheet}) => Object.assign(seen, {src: sheet, hidden: false}),
  };
  async function begin() {
    const start = performance.now();
    go.disabled = true;
    bar.value = 0;
    say("starting");
    try {
      ({job} = await send(path, asks()));
      stop.disabled = false;
      const [end, data] = await watch(job, on);
      seen.hidden = true;
      if (end === "failed") say(data.error, true);
      else if (end === "stopped") say("stopped");
      else {
        bar.value = bar.max;
        shows(data);
        say(`done in ${Math.round(performance.now() - start)} ms`);
      }
    } catch (error) {
      say(error.message, true);
    } finally {
      if (document.activeElement === stop) go.disabled = false, go.focus();
      go.disabled = false;
      stop.disabled = true;
      job = null;
    }
  }
  form.addEventListener("submit", event => { event.preventDefault(); if (!job) begin(); });
  stop.addEventListener("click", () => job && send(`/jobs/${job}/stop`).catch(error => say(error.message, true)));
  return begin;
}

// Calls back with each file that is dropped on the page.
export function dropped(then) {
  const root = document.documentElement;
  addEventListener("dragover", event => { event.preventDefault(); root.classList.add("dropping"); });
  addEventListener("dragleave", () => root.classList.remove("dropping"));
  addEventListener("drop", event => {
    event.preventDefault();
    root.classList.remove("dropping");
    const [file] = event.dataTransfer.files;
    if (file) then(file);
  });
}

// Calls back with the file that an input has, also where it was chosen before this script was here.
export function chosen(input, then) {
  const look = () => input.files.length && then(input.files[0]);
  input.addEventListener("change", look);
  look();
}
