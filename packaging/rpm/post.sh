systemd-sysusers lwm2m-gateway.conf
chgrp lwm2m-gateway /etc/lwm2m-gateway
chmod 750 /etc/lwm2m-gateway
if [ "$1" -eq 1 ]; then
    chgrp lwm2m-gateway /etc/lwm2m-gateway/gateway.toml
fi
if [ ! -e /etc/lwm2m-gateway/psk ]; then
    install -m 640 -g lwm2m-gateway /usr/share/lwm2m-gateway/psk /etc/lwm2m-gateway/psk
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
fi
