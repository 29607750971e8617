// Takes a photo: with the phone's camera app, or in a dialog of the page.
function makeCamera(root, addFile) {
  const dialog = root.querySelector('#camera-window'), video = dialog.querySelector('video');
  const problem = dialog.querySelector('p'), takePhoto = root.querySelector('#take-photo');
  let stream = null;

  async function open() {
    if (matchMedia('(pointer: coarse)').matches || !navigator.mediaDevices) {
      root.querySelector('#phone-camera').click();
      return;
    }
    problem.textContent = '';
    takePhoto.disabled = true;
    dialog.showModal();
    try {
      const constraints = {facingMode: 'environment', width: {ideal: 4096}, height: {ideal: 4096}};
      const opened = await navigator.mediaDevices.getUserMedia({video: constraints});
      if (!dialog.open) {
        opened.getTracks().forEach((track) => track.stop());
        return;
      }
      stream = opened;
      video.srcObject = stream;
      await video.play();
      takePhoto.disabled = false;
    } catch (error) {
      problem.textContent = 'The camera cannot be used: ' + error.message;
    }
  }

  takePhoto.addEventListener('click', () => {
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext('2d').drawImage(video, 0, 0);
    canvas.toBlob((blob) => {
      addFile(new File([blob], 'camera.png', {type: 'image/png'}));
      dialog.close();
    }, 'image/png');
  });
  root.querySelector('#close-camera').addEventListener('click', () => dialog.close());
  dialog.addEventListener('close', () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = video.srcObject = null;
  });
  root.querySelector('#camera').addEventListener('click', open);
}
