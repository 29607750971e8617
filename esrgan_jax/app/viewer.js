// Shows the image before and after upscaling, divided by a line; zooms and moves both together.
function makeViewer(root) {
  const find = (id) => root.querySelector('#' + id);
  const pane = find('window'), before = find('before'), after = find('after');
  const contents = [before.firstElementChild, after.firstElementChild];
  const split = find('split'), line = find('line');
  const view = {width: 1, height: 1, scale: 1, x: 0, y: 0, fitting: true, compared: false};
  const fingers = new Map();

  function fitScale() {
    return Math.min(pane.clientWidth / view.width, pane.clientHeight / view.height);
  }

  function update() {
    const sides = [['x', pane.clientWidth, view.width], ['y', pane.clientHeight, view.height]];
    if (view.fitting) view.scale = fitScale();
    for (const [axis, available, side] of sides) {
      const left = available - side * view.scale;
      view[axis] = left > 0 ? left / 2 : Math.min(0, Math.max(left, view[axis]));
    }
    for (const content of contents) {
      content.style.width = view.width + 'px';
      content.style.height = view.height + 'px';
      content.style.transform =
        'translate(' + view.x + 'px,' + view.y + 'px) scale(' + view.scale + ')';
    }
    const percent = Number(split.value);
    after.style.clipPath = view.compared ? 'inset(0 0 0 ' + percent + '%)' : 'none';
    line.style.left = percent + '%';
    find('zoom').value = Math.round(100 * view.scale) + ' %';
    pane.classList.toggle('zoomed', !view.fitting);
  }

  function zoomTo(scale, x = pane.clientWidth / 2, y = pane.clientHeight / 2) {
    scale = Math.min(Math.max(scale, Math.min(fitScale(), 1)), 16);
    view.fitting = scale <= fitScale() * 1.001 && scale >= fitScale() * 0.999;
    view.x = x - (x - view.x) * scale / view.scale;
    view.y = y - (y - view.y) * scale / view.scale;
    view.scale = scale;
    update();
  }

  function resize() {
    const most = Math.max(Math.min(innerHeight * 0.72, 900), 220);
    pane.style.height = Math.min(pane.clientWidth * view.height / view.width, most) + 'px';
    update();
  }

  const position = (event) => {
    const box = pane.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const pinch = () => {
    const [a, b] = [...fingers.values()];
    return [Math.hypot(a[0] - b[0], a[1] - b[1]), (a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
  };
  let dragged = null;
  pane.addEventListener('pointerdown', (event) => {
    if (event.button) return;
    fingers.set(event.pointerId, position(event));
    const onLine = line.contains(event.target);
    dragged = fingers.size > 1 ? 'pinch' : onLine || view.fitting ? 'line' : 'image';
    if (dragged === 'line' && !view.compared) return;
    pane.setPointerCapture(event.pointerId);
    if (dragged === 'line') moveLine(position(event)[0]);
  });
  pane.addEventListener('pointermove', (event) => {
    const last = fingers.get(event.pointerId);
    if (!last) return;
    const now = position(event);
    if (dragged === 'pinch' && fingers.size === 2) {
      const [distance] = pinch();
      fingers.set(event.pointerId, now);
      const [newDistance, x, y] = pinch();
      zoomTo(view.scale * newDistance / Math.max(distance, 1), x, y);
      return;
    }
    fingers.set(event.pointerId, now);
    if (dragged === 'line' && view.compared) moveLine(now[0]);
    if (dragged === 'image') {
      view.x += now[0] - last[0];
      view.y += now[1] - last[1];
      update();
    }
  });
  for (const name of ['pointerup', 'pointercancel']) {
    pane.addEventListener(name, (event) => fingers.delete(event.pointerId));
  }
  function moveLine(x) {
    split.value = 100 * x / pane.clientWidth;
    update();
  }
  split.addEventListener('input', update);
  pane.addEventListener('dblclick', (event) => {
    if (line.contains(event.target)) return;
    if (view.fitting) zoomTo(Math.max(1, 2 * fitScale()), ...position(event));
    else zoomTo(fitScale());
  });
  pane.addEventListener('wheel', (event) => {
    if (!event.ctrlKey && !event.metaKey && view.fitting) return; // the page scrolls
    event.preventDefault();
    zoomTo(view.scale * Math.exp(-event.deltaY / 300), ...position(event));
  }, {passive: false});
  find('zoom-in').addEventListener('click', () => zoomTo(view.scale * 1.5));
  find('zoom-out').addEventListener('click', () => zoomTo(view.scale / 1.5));
  find('zoom-fit').addEventListener('click', () => zoomTo(fitScale()));
  find('zoom-one').addEventListener('click', () => zoomTo(1));
  new ResizeObserver(resize).observe(pane.parentElement);

  function imageElement(url, alt, top = 0, height = 1) {
    const made = document.createElement('img');
    Object.assign(made, {src: url, alt, draggable: false});
    made.style.top = 100 * top + '%';
    made.style.height = 100 * height + '%';
    return made;
  }

  // Shows an image; only what differs from the last call is changed.
  let shown = {};
  return function show(image) {
    const {key, beforeUrl, afterUrl, parts, size, beforeTag, afterTag} = image;
    if (shown.key !== key) {
      Object.assign(view, {fitting: true});
      split.value = 50;
    }
    const scale = size[0] / view.width;
    if (shown.key === key && !view.fitting && scale !== 1) { // the view stays at the same place
      view.scale /= scale;
    }
    [view.width, view.height] = size;
    view.compared = Boolean(afterUrl);
    if (shown.beforeUrl !== beforeUrl || shown.key !== key) {
      const next = imageElement(beforeUrl, 'Before');
      const old = [...contents[0].children];
      contents[0].append(next); // above the old one, which is visible until it is loaded
      next.decode().catch(() => {}).finally(() => old.forEach((one) => one.remove()));
    }
    if (afterUrl !== shown.afterUrl || shown.key !== key) {
      if (afterUrl) {
        const next = imageElement(afterUrl, 'After');
        const old = [...contents[1].children];
        contents[1].append(next);
        next.decode().catch(() => {}).finally(() => old.forEach((one) => one.remove()));
      } else {
        contents[1].replaceChildren();
      }
    }
    if (!afterUrl) {
      let count = contents[1].querySelectorAll('img.part').length;
      if (count > parts.length) { // from an earlier run
        contents[1].replaceChildren();
        count = 0;
      }
      for (const [top, height, url] of parts.slice(count)) {
        const part = imageElement(url, '', top, height);
        part.className = 'part';
        contents[1].append(part);
      }
    }
    find('tag-before').textContent = beforeTag;
    find('tag-after').textContent = afterTag;
    find('tag-after').hidden = !afterTag;
    line.hidden = !view.compared;
    split.disabled = !view.compared;
    shown = image;
    resize();
  };
}
