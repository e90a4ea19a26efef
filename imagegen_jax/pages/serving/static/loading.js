// Waits until the page is there, then shows it: the server holds back the answer to what is no visit of a page.
"use strict";

fetch(location.href).then(() => location.reload()).catch(() => {
  document.getElementById("say").textContent = "The server has ended: its terminal says why.";
  document.querySelector("progress").hidden = true;
});
