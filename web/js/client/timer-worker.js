// Timers outside the page's thread: posts the slot back `ms` milliseconds after a message {slot, ms}.

self.addEventListener("message", ({ data: { slot, ms } }) => {
  setTimeout(() => self.postMessage(slot), ms);
});
