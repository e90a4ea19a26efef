import {at, read, reuses, show, working} from "/static/own/working.js";

const form = at("form");
working("/draw", () => read(form), ({pictures}) => show(at("out"), pictures));
reuses(form);
