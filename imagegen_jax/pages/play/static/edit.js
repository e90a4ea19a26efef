import {at, chosen, dropped, read, say, send, show, working} from "/static/own/working.js";

const form = at("form"), mask = at("mask"), pen = mask.getContext("2d"), photo = at("photo").getContext("2d");
let upload = null, cursor = [160, 160], last = null;

working("/edit", () => {
  if (!upload) throw new Error("choose a picture first");
  const found = {...read(form), upload};
  if (found.edit === "inpaint") found.mask = mask.toDataURL("image/png").split(",")[1];
  return found;
}, ({pictures}) => show(at("out"), pictures));

async function take(file) {
  try {
    const found = await send(`/upload?run=${form.elements.run.value}`, file);
    upload = found.upload;
    const image = new Image();
    image.onload = () => {
      photo.imageSmoothingEnabled = false;
      photo.drawImage(image, 0, 0, 320, 320);
    };
    image.src = found.url;
    say("the picture is here: now choose an edit");
  } catch (error) { say(error.message, true); }
}
chosen(at("file"), take);
dropped(take);

form.addEventListener("change", () => {
  const edit = form.elements.edit.value ?? "inpaint";
  for (const part of document.querySelectorAll("[data-edit]")) part.hidden = part.dataset.edit !== edit;
});

function paint(x, y) {
  const [fromX, fromY] = last ?? [x, y];
  Object.assign(pen, {lineWidth: +form.elements.brush.value, lineCap: "round", strokeStyle: "#e0457b"});
  pen.beginPath();
  pen.moveTo(fromX, fromY);
  pen.lineTo(x + .01, y);
  pen.stroke();
  last = [x, y];
}
const place = event => [event.offsetX * 320 / mask.clientWidth, event.offsetY * 320 / mask.clientHeight];
mask.addEventListener("pointerdown", event => { mask.setPointerCapture(event.pointerId); last = null; paint(...place(event)); });
mask.addEventListener("pointermove", event => event.buttons && paint(...place(event)));
mask.addEventListener("pointerup", () => { last = null; });
mask.addEventListener("keydown", event => {
  const moves = {ArrowLeft: [-20, 0], ArrowRight: [20, 0], ArrowUp: [0, -20], ArrowDown: [0, 20], " ": [0, 0]};
  const move = moves[event.key];
  if (!move) return;
  event.preventDefault();
  cursor = cursor.map((value, i) => Math.max(0, Math.min(320, value + move[i])));
  if (event.key === " ") { last = null; paint(...cursor); }
  say(`at ${cursor[0]}, ${cursor[1]} of 320`);
});
// Shows where the keys paint, as large as the brush.
function mark() {
  const size = 100 * form.elements.brush.value / 320;
  const [left, top] = cursor.map(value => 100 * value / 320 - size / 2);
  Object.assign(at("cursor").style, {left: `${left}%`, top: `${top}%`, width: `${size}%`, height: `${size}%`});
  at("cursor").hidden = !mask.matches(":focus-visible");
}
for (const name of ["focus", "blur", "keydown"]) mask.addEventListener(name, mark);
form.addEventListener("input", mark);
at("clear").addEventListener("click", () => pen.clearRect(0, 0, 320, 320));
