// Owns timers outside the page's thread: told {id, ms} it says the id back after that time; told
// {id, ms: null} it forgets it. Knows nothing of what the timers are for.

const running = new Map();

self.addEventListener("message", ({ data: { id, ms } }) => {
  clearTimeout(running.get(id));
  running.delete(id);
  if (ms === null) return;
  const expire = () => {
    running.delete(id);
    self.postMessage(id);
  };
  running.set(id, setTimeout(expire, ms));
});
