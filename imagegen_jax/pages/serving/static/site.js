// What all pages share: elements by name, requests with the visitor's token, and jobs that are watched.
"use strict";

export const at = name => document.getElementById(name);
const token = document.querySelector("meta[name=token]").content;

// Sends an object as JSON, or a Blob as it is; resolves to the answer, and throws an Error with what was wrong.
export async function send(path, body = {}) {
  const raw = body instanceof Blob;
  const answer = await fetch(path, {
    method: "POST",
    headers: {"x-token": token, "content-type": raw ? body.type || "application/octet-stream" : "application/json"},
    body: raw ? body : JSON.stringify(body),
  }).catch(() => { throw new Error("the server does not answer: is it still running?"); });
  const text = await answer.text();
  let found = {};
  try { found = JSON.parse(text); } catch { found = {error: text}; }
  if (!answer.ok) throw new Error(found.error || `the server answered ${answer.status}`);
  return found;
}

// Watches a job: `on` has functions by the names of its events; resolves to the name and the data of its end.
export function watch(job, on = {}) {
  return new Promise((resolve, reject) => {
    const source = new EventSource(`/jobs/${job}`);
    const listen = (name, then) => source.addEventListener(name, event => then(JSON.parse(event.data)));
    for (const name in on) listen(name, on[name]);
    for (const name of ["done", "failed", "stopped"]) {
      listen(name, data => { source.close(); resolve([name, data]); });
    }
    source.onerror = () => {  // of a short break the browser makes up by itself
      if (source.readyState === EventSource.CLOSED) reject(new Error("the server has gone, and the job with it"));
    };
  });
}

// Says something where screen readers hear it.
export function say(text, bad = false) {
  const place = at("say");
  place.textContent = text;
  place.classList.toggle("bad", bad);
}

// Shows beside each slider its value.
export function showValues(form) {
  for (const slider of form.querySelectorAll("input[type=range]")) {
    const output = slider.parentNode.querySelector("output");
    const show = () => { if (output) output.value = slider.value; };
    slider.addEventListener("input", show);
    show();
  }
}
