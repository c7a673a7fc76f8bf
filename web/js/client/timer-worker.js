// Timers outside the page's main thread: `ms` milliseconds after a message {slot, ms}, posts the slot back.

self.addEventListener("message", ({ data: { slot, ms } }) => {
  setTimeout(() => self.postMessage(slot), ms);
});
