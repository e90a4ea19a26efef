import {at, chosen, dropped, say, send} from "/static/own/working.js";

async function take(file) {
  try {
    await send("/gallery", file);
    at("file").value = "";
    location.reload();
  } catch (error) { say(error.message, true); }
}
dropped(take);
chosen(at("file"), take);
at("out").addEventListener("click", async event => {
  if (!event.target.classList.contains("remove")) return;
  const figure = event.target.closest("figure");
  try {
    await send(`/gallery/${figure.dataset.name}/remove`);
    figure.remove();
    say("deleted");
  } catch (error) { say(error.message, true); }
});
