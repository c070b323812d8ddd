"""One file for each subject; importing it registers its checks, in this order."""

from . import curl, load_tools, http_libraries, streams, ends, idle
from . import reverse_proxies, silent, shutdown, http_crc, http_delegate, multi_loop, slow_attacks, ws_push
