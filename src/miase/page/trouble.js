// What is said when something fails, when the server is gone, and when it asks for a token.

import { isThere, onUnauthorised } from "./api.js";

const LOOK_AGAIN_SECONDS = 3;

const $ = (id) => document.getElementById(id);
let looking = null; // while the server is gone
let onReturn = () => {};

// For screen readers: what others see without being told.
export const say = (text) => ($("status").textContent = text);

export function fail(error) {
  if (error.name === "AbortError") return;
  if (error.status === 0 && !looking) looking = setInterval(lookAgain, 1000 * LOOK_AGAIN_SECONDS);
  complain(error.message);
}

export function complain(text) {
  $("banner-text").textContent = text;
  $("banner").hidden = !text;
  $("banner-button").textContent = looking ? "Look again" : "Close";
}

// act is called when the server answers again.
export function whenBack(act) {
  onReturn = act;
}

async function lookAgain() {
  if (!(await isThere())) return;
  clearInterval(looking);
  looking = null;
  complain("");
  say("The server answers again.");
  onReturn();
}

$("banner-button").addEventListener("click", async () => {
  if (!looking) complain("");
  else if (await isThere()) await lookAgain();
  else say("The server still does not answer.");
});

onUnauthorised((refused) => {
  const refusal = refused ? "That token was refused. " : "";
  $("login-text").textContent = `${refusal}This server asks for the token it was started with.`;
  $("token").value = "";
  $("login").showModal();
  return new Promise((resolve) => {
    $("login").onclose = () => {
      if ($("token").value) resolve($("token").value);
      else $("login").showModal(); // nothing works without it
    };
  });
});
