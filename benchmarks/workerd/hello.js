addEventListener("fetch", (event) => {
  event.respondWith(new Response("hello", { headers: { "content-type": "text/plain; charset=utf-8" } }));
});
