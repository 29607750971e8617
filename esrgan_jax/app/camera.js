// An image of the camera: the phone's own program for it, or a window of the page.
function makeCamera(root, take) {
  const lens = root.querySelector('#lens'), video = lens.querySelector('video');
  const trouble = lens.querySelector('p'), shoot = root.querySelector('#shoot');
  let stream = null;

  async function open() {
    if (matchMedia('(pointer: coarse)').matches || !navigator.mediaDevices) {
      root.querySelector('#snap').click();
      return;
    }
    trouble.textContent = '';
    shoot.disabled = true;
    lens.showModal();
    try {
      const wanted = {facingMode: 'environment', width: {ideal: 4096}, height: {ideal: 4096}};
      const opened = await navigator.mediaDevices.getUserMedia({video: wanted});
      if (!lens.open) {
        opened.getTracks().forEach((track) => track.stop());
        return;
      }
      stream = opened;
      video.srcObject = stream;
      await video.play();
      shoot.disabled = false;
    } catch (error) {
      trouble.textContent = 'There is no camera that this page may use: ' + error.message;
    }
  }

  shoot.addEventListener('click', () => {
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext('2d').drawImage(video, 0, 0);
    canvas.toBlob((blob) => {
      take(new File([blob], 'camera.png', {type: 'image/png'}));
      lens.close();
    }, 'image/png');
  });
  root.querySelector('#unlens').addEventListener('click', () => lens.close());
  lens.addEventListener('close', () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = video.srcObject = null;
  });
  root.querySelector('#camera').addEventListener('click', open);
}
