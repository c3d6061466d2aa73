// Nothing to see: tells the page's cards of posters that became known after it was drawn, and asks again while some are
// awaited. Sends the trigger value `asked`: how many times it did.

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  window.dispatchEvent(new CustomEvent("marquee-posters", { detail: data.posters }));
  for (const place of document.querySelectorAll(".mq-poster .late")) {
    layPoster(place.parentElement, data.posters[place.dataset.id]);
  }
  clearTimeout(parentElement.timer);
  if (data.seconds) parentElement.timer = setTimeout(() => setTriggerValue("asked", data.asked + 1), data.seconds * 1000);
  return () => clearTimeout(parentElement.timer);
}
