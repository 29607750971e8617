// The page's images: uploads, the list, and the progress of the work.
const find = (id) => element.querySelector('#' + id);
const show = makeViewer(element);
const items = new Map(); // images in the order of upload
let chosen = null, busy = false, uploads = 0;

function showStatus(text, problem = false) {
  find('said').textContent = text;
  find('said').classList.toggle('problem', problem);
}

function make(name, className, text = '') {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function button(className, text, press) {
  const made = make('button', className, text);
  made.type = 'button';
  made.addEventListener('click', press);
  return made;
}

// ---- uploads ----

function send(url, body, item) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open('POST', url);
    request.upload.onprogress = (event) => {
      item.line = 'uploading, ' + Math.floor(100 * event.loaded / event.total) + ' %';
      draw();
    };
    request.onload = () => {
      try {
        resolve(JSON.parse(request.responseText));
      } catch {
        resolve({error: request.responseText || 'the server refused the file'});
      }
    };
    request.onerror = () => resolve({error: 'the server cannot be reached, or ended the upload'});
    request.send(body);
  });
}

function tooLarge(file) {
  return file.size > props.megabytes * 1e6 && file.name + ': has ' +
    (file.size / 1e6).toFixed(1) + ' megabytes, and this app takes up to ' + props.megabytes +
    '; choose a smaller one, or start the app with --max_megabytes';
}

async function add(name, url, body) {
  const item = {id: 'up-' + ++uploads, name, line: 'uploading', notes: []};
  items.set(item.id, item);
  const problem = body && tooLarge(body);
  draw();
  const answer = problem ? {error: problem} : await send(url, body, item);
  if (!items.has(item.id)) { // removed during the upload
    if (answer.key) deleteFiles([answer.key]);
    return;
  }
  Object.assign(item, answer);
  if (item.error) {
    showStatus(item.error, true);
  } else {
    item.line = item.width + '×' + item.height + ' pixels';
    if (item.frames > 1) item.line += ', ' + item.frames + ' frames';
    if (!busy) showStatus(item.name + ': ' + item.line);
    if (!busy || !items.get(chosen)?.key) chosen = item.id;
  }
  draw();
}

async function addFiles(files) {
  for (const file of [...files]) {
    await add(file.name, 'images?name=' + encodeURIComponent(file.name), file);
  }
}

function deleteFiles(keys) {
  fetch('images?' + keys.map((key) => 'key=' + encodeURIComponent(key)).join('&'),
    {method: 'DELETE'});
}

function remove(item) {
  items.delete(item.id);
  item.row?.remove();
  if (item.key) deleteFiles([item.key, item.result?.key].filter(Boolean));
  if (chosen === item.id) chosen = [...items.keys()].at(-1) ?? null;
  if (item.run?.state === 'working' && busy) document.querySelector('#stop').click();
  draw();
}

const browse = find('files'), phoneCamera = find('phone-camera');
find('browse').addEventListener('click', () => browse.click());
for (const input of [browse, phoneCamera]) {
  input.addEventListener('change', () => {
    addFiles(input.files).catch(console.error);
    input.value = '';
  });
}
for (const sample of element.querySelectorAll('.sample')) {
  const name = sample.dataset.sample;
  sample.addEventListener('click', () => add(name, 'images?sample=' + name, null));
}
makeCamera(element, (file) => addFiles([file]));

const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
let entered = 0;
const zone = find('zone');
document.addEventListener('dragenter', (event) => hasFiles(event) && entered++ === 0 &&
  zone.classList.add('over'));
document.addEventListener('dragleave', (event) => hasFiles(event) && --entered === 0 &&
  zone.classList.remove('over'));
document.addEventListener('dragover', (event) => hasFiles(event) && event.preventDefault());
document.addEventListener('drop', (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  entered = 0;
  zone.classList.remove('over');
  addFiles(event.dataTransfer.files);
});
document.addEventListener('paste', (event) => {
  const files = event.clipboardData?.files ?? [];
  if (files.length) {
    event.preventDefault();
    addFiles(files);
  }
});

const weights = find('weights');
document.addEventListener('weights', (event) => {
  weights.dataset.place = event.detail;
  weights.click();
});
weights.addEventListener('change', async () => {
  const file = weights.files[0], place = weights.dataset.place;
  weights.value = '';
  if (!file) return;
  showStatus('Reading ' + file.name + ' …');
  const url = 'weights?name=' + encodeURIComponent(file.name);
  const problem = tooLarge(file);
  const answer = problem ? {error: problem} : await send(url, file, {});
  if (answer.error) return showStatus(answer.error, true);
  showStatus(answer.name + ' is selected.');
  trigger('weights_added', {network: answer.network, place});
});

// ---- the list ----

function row(item) {
  const entry = make('li', '');
  const pick = button('pick', '', () => {
    chosen = item.id;
    draw();
  });
  pick.append(make('span', 'thumb'), make('span', 'name'), make('span', 'facts'));
  const links = make('div', 'links');
  const link = make('a', 'plain link');
  const removeButton = button('plain gone', '×', () => remove(item));
  removeButton.setAttribute('aria-label', 'Remove ' + item.name);
  removeButton.title = 'Remove';
  links.append(link, removeButton);
  const hint = make('div', 'hint');
  hint.append(make('p', ''), button('plain', '', () => trigger('suggested', item.hint)));
  entry.append(pick, links, make('p', 'error'), make('p', 'notes'), hint);
  find('list').append(entry);
  return entry;
}

function showDownload(link, result) {
  link.hidden = !result;
  if (!result || link.dataset.url === result.url) return;
  link.dataset.url = link.href = result.url;
  link.download = result.name;
  link.textContent = link.id ? 'Download ' + result.name + ' (' + result.megabytes + ' MB)'
    : 'Download';
  link.title = result.name;
}

function drawRow(item) {
  item.row ??= row(item);
  const part = (name) => item.row.querySelector('.' + name);
  const run = item.run ?? {}, write = (name, text) => {
    const place = part(name);
    if (place.textContent !== text) place.textContent = text;
    place.hidden = !text;
  };
  const percent = Math.floor(100 * (run.fraction ?? 0)) + ' %';
  const states = {waiting: 'waiting', working: percent, stopped: 'stopped'};
  write('name', item.name);
  write('facts', states[run.state] ?? item.result?.pixels ?? (item.error ? '' : item.line));
  write('error', item.error ?? run.error ?? '');
  write('notes', [...new Set([...item.notes ?? [], ...item.result?.notes ?? []])].join('. '));
  showDownload(part('link'), item.result);
  part('hint').hidden = !item.hint;
  if (item.hint) {
    part('hint').firstElementChild.textContent = item.hint.text;
    part('hint').lastElementChild.textContent = 'Choose ' + item.hint.network;
  }
  if (item.shown && !part('thumb').style.backgroundImage) {
    part('thumb').style.backgroundImage = 'url("' + item.shown + '")';
  }
  item.row.classList.toggle('chosen', item.id === chosen);
  part('pick').setAttribute('aria-current', item.id === chosen);
  part('pick').disabled = !item.shown;
}

function draw() {
  for (const item of items.values()) drawRow(item);
  const uploaded = [...items.values()].filter((item) => item.key);
  const results = uploaded.map((item) => item.result).filter(Boolean);
  find('work').hidden = !items.size;
  find('count').textContent = items.size === 1 ? '1 image' : items.size + ' images';
  find('all').hidden = results.length < 2;
  find('all').href = 'results.zip?' + results.map((result) => 'key=' + result.key).join('&');
  const item = items.get(chosen);
  find('viewer').hidden = !item?.shown;
  if (item?.shown) {
    const run = item.run?.state === 'working' ? item.run : null;
    const last = run ?? item.result; // also while it is upscaled again
    show({
      key: item.id,
      beforeUrl: last?.before ?? item.shown,
      afterUrl: run ? null : last?.after,
      parts: run?.parts ?? [],
      size: last?.size ?? [item.width, item.height],
      beforeTag: last?.before ? 'Before (bicubic)' : 'Image',
      afterTag: run?.before ? Math.floor(100 * run.fraction) + ' %' : last?.after ? 'After' : '',
    });
  }
  showDownload(find('download'), item?.result);
  const value = {keys: uploaded.map((one) => one.key), shown: item?.key ?? null};
  if (JSON.stringify(value) !== JSON.stringify(props.value)) props.value = value;
}

// ---- progress ----

document.addEventListener('status', ({detail}) => {
  if (!detail?.said) return;
  const began = detail.busy && !busy;
  busy = detail.busy;
  element.classList.toggle('busy', busy);
  showStatus(detail.said, detail.problem);
  const runs = Object.entries(detail.items ?? {}), count = runs.length;
  let fraction = 0;
  for (const [key, run] of runs) {
    fraction += run.state === 'working' ? run.fraction ?? 0 : run.state !== 'waiting';
    const item = [...items.values()].find((one) => one.key === key);
    if (!item) continue;
    const fresh = run.state === 'working' && item.run?.state !== 'working';
    if (fresh && item.id !== chosen && count > 1) chosen = item.id; // shows the image that is being upscaled
    if (run.state === 'working' && !run.before) run.before = item.result?.before;
    item.run = run;
    if (run.state === 'done') item.result = run;
  }
  const bar = find('bar'), percent = Math.round(100 * fraction / Math.max(count, 1));
  bar.hidden = !busy;
  bar.firstElementChild.style.width = percent + '%';
  bar.setAttribute('aria-valuenow', percent);
  draw();
  if (began && find('viewer').getBoundingClientRect().top > innerHeight - 200) {
    find('viewer').scrollIntoView({block: 'nearest', behavior: 'smooth'});
  }
});
draw();
