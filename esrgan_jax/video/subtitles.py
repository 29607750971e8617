"""Converts text subtitles between containers."""

from collections.abc import Iterator
from fractions import Fraction

from av.codec.codec import Codec, Properties
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

ENCODERS = {".mp4": "mov_text", ".mkv": "srt", ".webm": "webvtt"}
STYLED = ("ass", "ssa")
# FFmpeg's subtitle encoders take ASS, which has to define a style.
ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, \
Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def is_text(codec: str) -> bool:
    """Returns whether subtitles of a codec are text, not images, and can be decoded."""
    try:
        return bool(Codec(codec, "r").properties & Properties.TEXT_SUB.value)
    except ValueError:
        return False


class Conversion:
    """Converts a stream of text subtitles to a new stream of `output`."""

    def __init__(self, source: Stream, output: OutputContainer, suffix: str):
        context = source.codec_context
        assert isinstance(context, SubtitleCodecContext)
        self.decoder = context
        self.stream = output.add_stream(ENCODERS[suffix])
        encoder = self.stream.codec_context
        assert isinstance(encoder, SubtitleCodecContext)
        self.encoder = encoder
        styled = context.codec.name in STYLED
        encoder.subtitle_header = (context.extradata if styled else None) or ASS_HEADER
        encoder.time_base = self.stream.time_base = source.time_base or Fraction(1, 1000)

    def packets(self, packet: "Packet[Stream]") -> Iterator["Packet[Stream]"]:
        """Yields the converted packet, or nothing if the packet has no text."""
        found = self.decoder.decode2(packet)
        lines = [part.ass for part in found or () if isinstance(part, AssSubtitle)]
        if not lines:
            return
        first = lines[0].split(b",", 8)  # nine fields, the last one is the text
        text = rb"\N".join(line.split(b",", 8)[-1] for line in lines)
        length = round(1000 * (packet.duration or 0) * packet.time_base)
        joined = SubtitleSet.create(b",".join([*first[:-1], text]), 0, length, 0)
        converted = self.encoder.encode_subtitle(joined)
        converted.stream, converted.time_base = self.stream, packet.time_base
        converted.pts = converted.dts = packet.pts
        converted.duration = packet.duration
        yield converted
