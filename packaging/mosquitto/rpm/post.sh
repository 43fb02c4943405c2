if [ "$1" -eq 1 ]; then
    chgrp mosquitto /etc/mosquitto/lwm2m.toml || :
fi
if [ ! -e /etc/mosquitto/lwm2m.psk ]; then
    install -m 640 -g mosquitto /usr/share/lwm2m-gateway-mosquitto/psk /etc/mosquitto/lwm2m.psk || :
fi
