import {at, read, show, working} from "/static/own/working.js";

const form = at("form");
function asks() {
  const [other, step] = at("other").value.split(",");
  const found = {...read(form), other: +other};
  if (step) found.other_step = +step;
  return found;
}
working("/compare", asks, ({sides}) => {
  at("sides").replaceChildren(...sides.flatMap(side => {
    const title = document.createElement("h2"), place = document.createElement("div");
    title.textContent = `${side.run} at step ${side.at}`;
    place.className = "pictures";
    show(place, side.pictures);
    return [title, place];
  }));
});
