// Keys of all pages: one letter does one thing, never while somebody types, never with Ctrl, Alt or Meta.
"use strict";
(() => {
  const bound = new Map();
  const typing = (target) =>
    target.isContentEditable || target.tagName === "TEXTAREA" || target.tagName === "SELECT" ||
    (target.tagName === "INPUT" && !["checkbox", "radio", "button", "submit", "range"].includes(target.type));
  const help = () => document.getElementById("help");

  document.documentElement.classList.add("js");
  window.desk = {
    // Binds keys ("j", "Shift+x") to a function; it gets the event, and returns false to let the browser go on.
    key(names, does) {
      for (const name of names.split(" ")) bound.set(name, does);
    },
    csrf: () => document.querySelector('meta[name="csrf"]')?.content ?? "",
    // Tells those who do not see the page what happened.
    say(text) {
      const place = document.getElementById("said");
      if (place) place.textContent = text;
    },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (document.body.dataset.keyboard === "off" || typing(event.target)) return;
    if (help()?.open && event.key !== "?") return;
    const letter = event.key === " " ? "Space" : event.key;
    const name = event.shiftKey && /^[A-Za-z]$/.test(letter) ? `Shift+${letter.toLowerCase()}` : letter;
    const does = bound.get(name);
    if (!does) return;
    if (letter === "Space" && event.target.closest("button, a, input, summary")) return;
    if (does(event) !== false) event.preventDefault();
  });
  desk.key("?", () => {
    const dialog = help();
    if (!dialog) return false;
    if (dialog.open) dialog.close();
    else dialog.showModal();
  });
  desk.key("u", () => {
    const form = document.querySelector(".flash form.undo") ?? document.querySelector("form.undo");
    if (!form) return false;
    form.requestSubmit();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-help]")) help()?.showModal();
    if (event.target.closest("[data-close]")) event.target.closest("dialog")?.close();
    const menu = document.querySelector("details.menu[open]");
    if (menu && !menu.contains(event.target)) menu.open = false;
  });
})();
