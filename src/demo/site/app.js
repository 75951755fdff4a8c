// The start page: entries, the form and the stream. Without this script the form still works: it posts to /guestbook/.
"use strict";

const $ = (id) => document.getElementById(id);
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

function ago(ms) {
  const seconds = Math.round((ms - Date.now()) / 1000);
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (Math.abs(seconds) >= size) return relative.format(Math.trunc(seconds / size), unit);
  }
  return relative.format(0, "second");
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function entryItem(entry) {
  const item = element("li");
  const who = element("p", undefined, "who");
  const time = element("time", ago(entry.written_ms));
  const date = new Date(entry.written_ms);
  time.dateTime = date.toISOString();
  time.title = date.toLocaleString();
  who.append(element("b", entry.name), " ", time);
  item.append(who, element("p", entry.message, "what"));
  return item;
}

async function loadEntries() {
  const list = $("entries");
  try {
    const response = await fetch("/guestbook/api/entries", { headers: { Accept: "application/json" } });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    $("store-note").textContent = answer.described;
    if (answer.store === "memory") $("splitter-note").textContent = "Not part of this run: it was started without a database.";
    list.replaceChildren(...answer.entries.map(entryItem));
    if (!answer.entries.length) list.append(element("li", "Nobody has signed yet. Be the first!", "empty"));
  } catch (error) {
    list.replaceChildren(element("li", `The entries could not be loaded: ${error.message}`, "empty"));
  } finally {
    list.removeAttribute("aria-busy");
  }
}

async function sign(event) {
  event.preventDefault();
  const form = event.currentTarget;
  const button = form.querySelector("button");
  const note = $("sign-note");
  button.disabled = true;
  note.textContent = "";
  try {
    const response = await fetch(form.action, {
      method: "POST",
      headers: { Accept: "application/json" },
      body: new URLSearchParams(new FormData(form)),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    const item = entryItem(answer);
    item.classList.add("new");
    $("entries").querySelector(".empty")?.remove();
    $("entries").prepend(item);
    form.elements.message.value = "";
    note.className = "form-note";
    note.textContent = "Thank you! Your entry is in the book.";
  } catch (error) {
    note.className = "form-note bad";
    note.textContent = error.message;
  } finally {
    button.disabled = false;
  }
}

async function stream() {
  const button = $("stream-start");
  const out = $("stream-out");
  button.disabled = true;
  while (out.lastChild.nodeType === Node.TEXT_NODE) out.lastChild.remove();
  out.append("/guestbook/stream\n");
  try {
    const response = await fetch("/guestbook/stream");
    if (!response.ok) throw new Error(`status ${response.status}`);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      out.append(part.value);
      out.scrollTop = out.scrollHeight;
    }
  } catch (error) {
    out.append(`the stream broke: ${error.message}\n`);
  } finally {
    button.disabled = false;
  }
}

for (const origin of document.querySelectorAll(".origin")) origin.textContent = location.origin;
$("sign").addEventListener("submit", sign);
$("stream-start").addEventListener("click", stream);
loadEntries();
