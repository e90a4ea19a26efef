// What the pages of the playground share: a form that begins a job, its progress, and the pictures that come of it.
import {at, say, send, showValues, watch} from "/static/site.js";

export {at, say, send};
const WAYS = {between: 1, mix: 1, walk: 1};  // kinds of pictures that the page "explore" makes

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
function fill(form, settings) {
  const ways = settings.kind in WAYS ? {way: settings.kind} : {n: 1};
  const names = {...settings, steps: settings.solver_steps, step: undefined, ...ways};
  for (const field of form.elements) {
    const value = names[field.name];
    if (value === undefined || field.type === "hidden") continue;
    if (field.type === "radio") field.checked = field.value === String(value);
    else field.value = value;
    field.dispatchEvent(new Event("input", {bubbles: true}));
  }
  form.dispatchEvent(new Event("change"));
}

// Fills a page's form with the settings of the picture in its address, or of one that is dropped; goes to the page of
// the picture's run, and to that of its way, where this is another.
export function reuses(form, then = () => {}) {
  const run = form.elements.run, here = location.pathname;
  function use(settings, name) {
    const link = [...form.querySelectorAll("a.pick")].find(pick => pick.textContent === settings.run);
    const there = settings.kind in WAYS ? "/explore" : "/";
    if (settings.run !== run.dataset.name && !link) return say(`the picture is of the run ${settings.run}`, true);
    if (settings.run !== run.dataset.name || there !== here) {
      const number = link ? new URL(link.href).searchParams.get("run") : run.value;
      return location.assign(`${there}?run=${number}&use=${encodeURIComponent(name)}`);
    }
    fill(form, settings);
    then(settings);
    say("drawing with the settings of the picture");
  }
  dropped(async file => {
    try {
      const {name, settings} = await send("/gallery", file);
      use(settings, name);
    } catch (error) { say(error.message, true); }
  });
  const name = new URLSearchParams(location.search).get("use");
  if (name) fetch(`/gallery/${encodeURIComponent(name)}/settings`).then(answer => answer.json()).then(found => use(found, name));
}

// What a picture is called among those that came with it.
function called({seed, settings: {image, n, kind, other}}) {
  if (kind === "mix") {
    const side = Math.sqrt(n);
    return `seed ${seed + Math.floor(image / side)} with ${other + image % side}`;
  }
  return image === undefined || n < 2 ? `seed ${seed}` : `seed ${seed}, ${image + 1} of ${n}`;
}

// Shows pictures, each with what it is called and a link to its file; a square of mixed styles as a square.
export function show(place, pictures) {
  const square = pictures[0]?.settings.kind === "mix";
  place.style.gridTemplateColumns = square ? `repeat(${Math.sqrt(pictures.length)}, minmax(0, 1fr))` : "";
  place.replaceChildren(...pictures.map(({name, url, ...picture}) => {
    const figure = document.createElement("figure"), image = new Image(), caption = document.createElement("figcaption");
    Object.assign(image, {src: url, alt: `picture of ${called(picture)}`, className: "pixels"});
    caption.textContent = called(picture);
    figure.append(image, caption);
    if (name) {
      const link = document.createElement("a");
      Object.assign(link, {href: `/gallery/${name}`, download: name, textContent: "download"});
      caption.append(", ", link);
    }
    return figure;
  }));
}

const lasted = time => time < 10_000 ? `${Math.round(time)} ms` : `${Math.round(time / 1000)} s`;

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
        say(`done in ${lasted(performance.now() - start)}`);
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
  form.addEventListener("submit", event => { event.preventDefault(); if (job) return;
    begin();
    bar.scrollIntoView({block: "nearest"});  // on a narrow page it is below the form
  });
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
