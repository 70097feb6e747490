"""Models as other people write them: their idioms in a small size, none of the code is copied."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F
from styles_more import MORE
from torch.nn.utils.parametrizations import weight_norm


# --- a small GPT with a flag for the fused attention, a causal buffer and a config object -----------------------------
class CausalSelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        assert config.n_embd % config.n_head == 0
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.attn_dropout = nn.Dropout(config.dropout)
        self.resid_dropout = nn.Dropout(config.dropout)
        self.n_head = config.n_head
        self.n_embd = config.n_embd
        self.dropout = config.dropout
        self.flash = config.flash
        if not self.flash:
            mask = torch.tril(torch.ones(config.block_size, config.block_size))
            self.register_buffer("bias", mask.view(1, 1, config.block_size, config.block_size))

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        if self.flash:
            y = F.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=None,
                dropout_p=self.dropout if self.training else 0,
                is_causal=True,
            )
        else:
            att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf"))
            att = F.softmax(att, dim=-1)
            att = self.attn_dropout(att)
            y = att @ v
        y = y.transpose(1, 2).contiguous().view(B, T, C)
        return self.resid_dropout(self.c_proj(y))


class LayerNorm(nn.Module):
    """Layer norm with an optional bias."""

    def __init__(self, ndim, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(ndim))
        self.bias = nn.Parameter(torch.zeros(ndim)) if bias else None

    def forward(self, input):
        return F.layer_norm(input, self.weight.shape, self.weight, self.bias, 1e-5)


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = nn.GELU()
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x):
        x = self.c_fc(x)
        x = self.gelu(x)
        x = self.c_proj(x)
        return self.dropout(x)


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.transformer = nn.ModuleDict(
            dict(
                wte=nn.Embedding(config.vocab_size, config.n_embd),
                wpe=nn.Embedding(config.block_size, config.n_embd),
                drop=nn.Dropout(config.dropout),
                h=nn.ModuleList([Block(config) for _ in range(config.n_layer)]),
                ln_f=LayerNorm(config.n_embd, bias=config.bias),
            )
        )
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.transformer.wte.weight = self.lm_head.weight

    def forward(self, idx):
        device = idx.device
        b, t = idx.size()
        pos = torch.arange(0, t, dtype=torch.long, device=device)
        tok_emb = self.transformer.wte(idx)
        pos_emb = self.transformer.wpe(pos)
        x = self.transformer.drop(tok_emb + pos_emb)
        for block in self.transformer.h:
            x = block(x)
        x = self.transformer.ln_f(x)
        return self.lm_head(x)


def make_gpt(flash, bias=True):
    config = SimpleNamespace(
        block_size=20,
        vocab_size=61,
        n_layer=3,
        n_head=2,
        n_embd=24,
        dropout=0.1,
        bias=bias,
        flash=flash,
    )
    return GPT(config), torch.randint(0, 61, (3, 11))


# --- WGAN ------------------------------------------------------------------------------------------------------------
class Generator(nn.Module):
    def __init__(self, latent_dim=10, img_shape=(3, 32, 32)):
        super().__init__()
        self.img_shape = img_shape
        self.init_size = img_shape[1] // 4
        self.l1 = nn.Sequential(nn.Linear(latent_dim, 16 * self.init_size**2))
        self.conv_blocks = nn.Sequential(
            nn.BatchNorm2d(16),
            nn.ConvTranspose2d(16, 12, 4, 2, 1, bias=False),
            nn.BatchNorm2d(12, 0.8),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(12, 8, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(8, img_shape[0], 3, stride=1, padding=1),
            nn.Tanh(),
        )

    def forward(self, z):
        out = self.l1(z)
        out = out.view(out.shape[0], 16, self.init_size, self.init_size)
        img = self.conv_blocks(out)
        return img


class Critic(nn.Module):
    def __init__(self):
        super().__init__()

        def discriminator_block(in_filters, out_filters, bn=True):
            block = [
                nn.Conv2d(in_filters, out_filters, 3, 2, 1),
                nn.LeakyReLU(0.2, inplace=True),
                nn.Dropout2d(0.25),
            ]
            if bn:
                block.append(nn.BatchNorm2d(out_filters, 0.8))
            return block

        self.model = nn.Sequential(
            *discriminator_block(3, 8, bn=False),
            *discriminator_block(8, 12),
            *discriminator_block(12, 16),
        )
        self.adv_layer = nn.Sequential(nn.Linear(16 * 4 * 4, 1))

    def forward(self, img):
        out = self.model(img)
        out = out.view(out.shape[0], -1)
        validity = self.adv_layer(out)
        return validity


# --- VAE with its noise as an input ----------------------------------------------------------------------------------
class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(60, 40)
        self.fc21 = nn.Linear(40, 7)
        self.fc22 = nn.Linear(40, 7)
        self.fc3 = nn.Linear(7, 40)
        self.fc4 = nn.Linear(40, 60)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar, eps):
        std = torch.exp(0.5 * logvar)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x, eps):
        mu, logvar = self.encode(x.view(-1, 60))
        z = self.reparameterize(mu, logvar, eps)
        return self.decode(z), mu, logvar


# --- PointNet --------------------------------------------------------------------------------------------------------
class STN3d(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(3, 8, 1)
        self.conv2 = nn.Conv1d(8, 12, 1)
        self.fc1 = nn.Linear(12, 10)
        self.fc2 = nn.Linear(10, 9)
        self.bn1 = nn.BatchNorm1d(8)
        self.bn2 = nn.BatchNorm1d(12)
        self.bn3 = nn.BatchNorm1d(10)

    def forward(self, x):
        batchsize = x.size()[0]
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = torch.max(x, 2, keepdim=True)[0]
        x = x.view(-1, 12)
        x = F.relu(self.bn3(self.fc1(x)))
        x = self.fc2(x)
        iden = torch.eye(3, device=x.device).view(1, 9).repeat(batchsize, 1)
        x = x + iden
        return x.view(-1, 3, 3)


class PointNet(nn.Module):
    def __init__(self, k=5):
        super().__init__()
        self.stn = STN3d()
        self.conv1 = nn.Conv1d(3, 8, 1)
        self.conv2 = nn.Conv1d(8, 16, 1)
        self.bn1 = nn.BatchNorm1d(8)
        self.bn2 = nn.BatchNorm1d(16)
        self.conv3 = nn.Conv1d(24, k, 1)

    def forward(self, x):
        n_pts = x.size()[2]
        trans = self.stn(x)
        x = x.transpose(2, 1)
        x = torch.bmm(x, trans)
        x = x.transpose(2, 1)
        pointfeat = F.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(pointfeat))
        x = torch.max(x, 2, keepdim=True)[0]
        x = x.view(-1, 16, 1).repeat(1, 1, n_pts)
        x = torch.cat([x, pointfeat], 1)
        x = self.conv3(x)
        x = x.transpose(2, 1).contiguous()
        return F.log_softmax(x, dim=-1), trans


# --- text ------------------------------------------------------------------------------------------------------------
class TextCNN(nn.Module):
    def __init__(self, vocab=50, emb=12, classes=4, num_filters=7, kernel_sizes=(2, 3, 4)):
        super().__init__()
        self.embedding = nn.Embedding(vocab, emb, padding_idx=0)
        self.convs = nn.ModuleList([nn.Conv1d(emb, num_filters, k) for k in kernel_sizes])
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(num_filters * len(kernel_sizes), classes)

    def conv_and_pool(self, x, conv):
        x = F.relu(conv(x))
        return F.max_pool1d(x, x.size(2)).squeeze(2)

    def forward(self, text):
        emb = self.embedding(text).permute(0, 2, 1)
        out = torch.cat([self.conv_and_pool(emb, conv) for conv in self.convs], dim=1)
        out = self.dropout(out)
        return self.fc(out)


class TextCNN2d(nn.Module):
    """Kim's network the way it is usually taught: images of one channel."""

    def __init__(self, vocab=50, D=12, C=4, Co=7, Ks=(3, 4, 5)):
        super().__init__()
        self.embed = nn.Embedding(vocab, D)
        self.convs = nn.ModuleList([nn.Conv2d(1, Co, (K, D)) for K in Ks])
        self.dropout = nn.Dropout(0.3)
        self.fc1 = nn.Linear(len(Ks) * Co, C)

    def forward(self, x):
        x = self.embed(x)
        x = x.unsqueeze(1)
        x = [F.relu(conv(x)).squeeze(3) for conv in self.convs]
        x = [F.max_pool1d(i, i.size(2)).squeeze(2) for i in x]
        x = torch.cat(x, 1)
        x = self.dropout(x)
        logit = self.fc1(x)
        return logit


class BiLSTMTagger(nn.Module):
    def __init__(self, vocab=50, emb=10, hidden=12, tags=6):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab, emb, padding_idx=0)
        self.lstm = nn.LSTM(
            emb, hidden // 2, num_layers=2, bidirectional=True, batch_first=True, dropout=0.2
        )
        self.hidden2tag = nn.Linear(hidden, tags)

    def forward(self, sentence):
        embeds = self.word_embeddings(sentence)
        lstm_out, _ = self.lstm(embeds)
        tag_space = self.hidden2tag(lstm_out)
        return F.log_softmax(tag_space, dim=2)


class Encoder(nn.Module):
    def __init__(self, vocab, emb, hid):
        super().__init__()
        self.embedding = nn.Embedding(vocab, emb)
        self.rnn = nn.GRU(emb, hid, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(hid * 2, hid)

    def forward(self, src):
        outputs, hidden = self.rnn(self.embedding(src))
        hidden = torch.tanh(self.fc(torch.cat((hidden[-2, :, :], hidden[-1, :, :]), dim=1)))
        return outputs, hidden


class Attention(nn.Module):
    def __init__(self, enc_hid, dec_hid):
        super().__init__()
        self.attn = nn.Linear(enc_hid * 2 + dec_hid, dec_hid)
        self.v = nn.Linear(dec_hid, 1, bias=False)

    def forward(self, hidden, encoder_outputs):
        src_len = encoder_outputs.shape[1]
        hidden = hidden.unsqueeze(1).repeat(1, src_len, 1)
        energy = torch.tanh(self.attn(torch.cat((hidden, encoder_outputs), dim=2)))
        attention = self.v(energy).squeeze(2)
        return F.softmax(attention, dim=1)


class Decoder(nn.Module):
    def __init__(self, vocab, emb, hid, attention):
        super().__init__()
        self.attention = attention
        self.embedding = nn.Embedding(vocab, emb)
        self.rnn = nn.GRUCell(hid * 2 + emb, hid)
        self.fc_out = nn.Linear(hid * 3 + emb, vocab)

    def forward(self, input, hidden, encoder_outputs):
        embedded = self.embedding(input)
        a = self.attention(hidden, encoder_outputs).unsqueeze(1)
        weighted = torch.bmm(a, encoder_outputs).squeeze(1)
        hidden = self.rnn(torch.cat((embedded, weighted), dim=1), hidden)
        prediction = self.fc_out(torch.cat((hidden, weighted, embedded), dim=1))
        return prediction, hidden


class Seq2Seq(nn.Module):
    def __init__(self, vocab=30):
        super().__init__()
        self.encoder = Encoder(vocab, 8, 10)
        self.decoder = Decoder(vocab, 8, 10, Attention(10, 10))

    def forward(self, src, trg):
        encoder_outputs, hidden = self.encoder(src)
        outputs = []
        for t in range(trg.shape[1]):
            output, hidden = self.decoder(trg[:, t], hidden, encoder_outputs)
            outputs.append(output)
        return torch.stack(outputs, dim=1)


# --- pairs and similarities --------------------------------------------------------------------------------------------
class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(1, 4, kernel_size=3), nn.ReLU(inplace=True), nn.BatchNorm2d(4),
            nn.MaxPool2d(2), nn.ReflectionPad2d(1), nn.Conv2d(4, 8, kernel_size=3), nn.ReLU(inplace=True),
            nn.BatchNorm2d(8),
        )  # fmt: skip
        self.fc = nn.Sequential(nn.Linear(8 * 10 * 10, 20), nn.ReLU(inplace=True), nn.Linear(20, 5))

    def forward_once(self, x):
        output = self.cnn(x)
        output = output.view(output.size()[0], -1)
        return self.fc(output)

    def forward(self, input1, input2):
        output1 = self.forward_once(input1)
        output2 = self.forward_once(input2)
        return F.pairwise_distance(output1, output2), F.cosine_similarity(output1, output2)


class TwoTower(nn.Module):
    def __init__(self, n_users=40, n_items=30, dim=8):
        super().__init__()
        self.user = nn.Embedding(n_users, dim)
        self.item = nn.Embedding(n_items, dim)
        self.interaction = nn.Bilinear(dim, dim, 5)
        self.logit_scale = nn.Parameter(torch.ones([]) * math.log(1 / 0.07))
        self.user_bias = nn.Embedding(n_users, 1)

    def forward(self, users, items):
        u, i = self.user(users), self.item(items)
        mixed = self.interaction(u, i)
        u = F.normalize(u, dim=-1)
        i = i / i.norm(dim=-1, keepdim=True)
        logits = self.logit_scale.exp() * u @ i.t()
        score = (u * i).sum(-1) + self.user_bias(users).squeeze(-1)
        return logits, score, mixed


# --- segmentation and detection ----------------------------------------------------------------------------------------
class ASPP(nn.Module):
    def __init__(self, cin, cout, rates=(1, 2, 3)):
        super().__init__()
        self.branches = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(cin, cout, 3, padding=r, dilation=r, bias=False),
                    nn.BatchNorm2d(cout),
                    nn.ReLU(),
                )
                for r in rates
            ]
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(cin, cout, 1), nn.ReLU())
        self.project = nn.Conv2d(cout * (len(rates) + 1), cout, 1)

    def forward(self, x):
        size = x.shape[-2:]
        res = [branch(x) for branch in self.branches]
        pooled = self.pool(x)
        res.append(F.interpolate(pooled, size=size, mode="bilinear", align_corners=False))
        return self.project(torch.cat(res, dim=1))


class DeepLab(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6())
        self.backbone = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.GroupNorm(3, 12), nn.SiLU())
        self.aspp = ASPP(12, 9)
        self.low = nn.Conv2d(8, 4, 1)
        self.classifier = nn.Conv2d(13, 5, 3, padding=1)

    def forward(self, x):
        input_shape = x.shape[-2:]
        low_level = self.stem(x)
        out = self.aspp(self.backbone(low_level))
        out = F.interpolate(out, size=low_level.shape[2:], mode="bilinear", align_corners=True)
        out = torch.cat([out, self.low(low_level)], dim=1)
        out = self.classifier(out)
        return F.interpolate(out, size=input_shape, mode="bilinear", align_corners=False)


class Conv(nn.Module):
    def __init__(self, c1, c2, k=1, s=1, p=None, act=True):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2 if p is None else p, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = nn.SiLU() if act is True else nn.Identity()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, c1, c2, shortcut=True):
        super().__init__()
        self.cv1 = Conv(c1, c2, 1)
        self.cv2 = Conv(c2, c2, 3)
        self.add = shortcut and c1 == c2

    def forward(self, x):
        return x + self.cv2(self.cv1(x)) if self.add else self.cv2(self.cv1(x))


class C3(nn.Module):
    def __init__(self, c1, c2, n=1, shortcut=True):
        super().__init__()
        c_ = c2 // 2
        self.cv1 = Conv(c1, c_)
        self.cv2 = Conv(c1, c_)
        self.cv3 = Conv(2 * c_, c2)
        self.m = nn.Sequential(*(Bottleneck(c_, c_, shortcut) for _ in range(n)))

    def forward(self, x):
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class SPPF(nn.Module):
    def __init__(self, c1, c2, k=5):
        super().__init__()
        self.cv1 = Conv(c1, c1 // 2)
        self.cv2 = Conv(c1 // 2 * 4, c2)
        self.m = nn.MaxPool2d(kernel_size=k, stride=1, padding=k // 2)

    def forward(self, x):
        x = self.cv1(x)
        y1 = self.m(x)
        y2 = self.m(y1)
        return self.cv2(torch.cat((x, y1, y2, self.m(y2)), 1))


class Concat(nn.Module):
    def __init__(self, dimension=1):
        super().__init__()
        self.d = dimension

    def forward(self, x):
        return torch.cat(x, self.d)


class Detect(nn.Module):
    def __init__(self, nc=3, anchors=2, ch=()):
        super().__init__()
        self.no = nc + 5
        self.na = anchors
        self.m = nn.ModuleList(nn.Conv2d(x, self.no * self.na, 1) for x in ch)

    def forward(self, x):
        z = []
        for i, conv in enumerate(self.m):
            y = conv(x[i])
            bs, _, ny, nx = y.shape
            y = y.view(bs, self.na, self.no, ny, nx).permute(0, 1, 3, 4, 2).contiguous()
            z.append(y.sigmoid().view(bs, -1, self.no))
        return torch.cat(z, 1)


class Yolo(nn.Module):
    def __init__(self):
        super().__init__()
        self.b1 = nn.Sequential(Conv(3, 8, 3, 2), C3(8, 12, n=2))
        self.b2 = nn.Sequential(Conv(12, 16, 3, 2), C3(16, 16), SPPF(16, 16, k=3))
        self.lateral = Conv(16, 12, 1)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.cat = Concat(1)
        self.out = C3(24, 12, shortcut=False)
        self.detect = Detect(ch=(12, 16))

    def forward(self, x):
        p1 = self.b1(x)
        p2 = self.b2(p1)
        n1 = self.out(self.cat([self.up(self.lateral(p2)), p1]))
        return self.detect([n1, p2])


# --- sequences of samples ------------------------------------------------------------------------------------------------
class Chomp1d(nn.Module):
    def __init__(self, chomp_size):
        super().__init__()
        self.chomp_size = chomp_size

    def forward(self, x):
        return x[:, :, : -self.chomp_size].contiguous()


class TemporalBlock(nn.Module):
    def __init__(self, n_inputs, n_outputs, kernel_size, stride, dilation, padding, dropout=0.2):
        super().__init__()
        self.conv1 = weight_norm(
            nn.Conv1d(
                n_inputs, n_outputs, kernel_size, stride=stride, padding=padding, dilation=dilation
            )
        )
        self.chomp1 = Chomp1d(padding)
        self.relu1 = nn.ReLU()
        self.dropout1 = nn.Dropout(dropout)
        self.conv2 = weight_norm(
            nn.Conv1d(
                n_outputs, n_outputs, kernel_size, stride=stride, padding=padding, dilation=dilation
            )
        )
        self.chomp2 = Chomp1d(padding)
        self.relu2 = nn.ReLU()
        self.dropout2 = nn.Dropout(dropout)
        self.net = nn.Sequential(
            self.conv1,
            self.chomp1,
            self.relu1,
            self.dropout1,
            self.conv2,
            self.chomp2,
            self.relu2,
            self.dropout2,
        )
        self.downsample = nn.Conv1d(n_inputs, n_outputs, 1) if n_inputs != n_outputs else None
        self.relu = nn.ReLU()

    def forward(self, x):
        out = self.net(x)
        res = x if self.downsample is None else self.downsample(x)
        return self.relu(out + res)


class TCN(nn.Module):
    def __init__(self, num_inputs=3, num_channels=(6, 6, 8), kernel_size=2, classes=4):
        super().__init__()
        layers = []
        for i, out_channels in enumerate(num_channels):
            dilation_size = 2**i
            in_channels = num_inputs if i == 0 else num_channels[i - 1]
            layers += [
                TemporalBlock(
                    in_channels, out_channels, kernel_size, stride=1, dilation=dilation_size,
                    padding=(kernel_size - 1) * dilation_size,
                )
            ]  # fmt: skip
        self.network = nn.Sequential(*layers)
        self.linear = nn.Linear(num_channels[-1], classes)

    def forward(self, x):
        y1 = self.network(x)
        return self.linear(y1[:, :, -1])


class WaveNet(nn.Module):
    def __init__(self, channels=8, skip=6, layers=3):
        super().__init__()
        self.start = nn.Conv1d(1, channels, 1)
        self.filters, self.gates, self.skips, self.residuals = (nn.ModuleList() for _ in range(4))
        self.dilations = [2**i for i in range(layers)]
        for d in self.dilations:
            self.filters.append(nn.Conv1d(channels, channels, 2, dilation=d))
            self.gates.append(nn.Conv1d(channels, channels, 2, dilation=d))
            self.skips.append(nn.Conv1d(channels, skip, 1))
            self.residuals.append(nn.Conv1d(channels, channels, 1))
        self.end = nn.Conv1d(skip, 10, 1)

    def forward(self, x):
        x = self.start(x)
        skip = 0
        for i, d in enumerate(self.dilations):
            padded = F.pad(x, (d, 0))
            z = torch.tanh(self.filters[i](padded)) * torch.sigmoid(self.gates[i](padded))
            skip = skip + self.skips[i](z)
            x = x + self.residuals[i](z)
        return self.end(F.relu(skip))


# --- experts -----------------------------------------------------------------------------------------------------------
class Expert(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))

    def forward(self, x):
        return self.net(x)


class MoE(nn.Module):
    def __init__(self, dim=10, hidden=14, n_experts=4):
        super().__init__()
        self.experts = nn.ModuleList([Expert(dim, hidden) for _ in range(n_experts)])
        self.gate = nn.Linear(dim, n_experts)

    def forward(self, x):
        weights = F.softmax(self.gate(x), dim=-1)
        outputs = torch.stack([expert(x) for expert in self.experts], dim=2)
        weights = weights.unsqueeze(-1).expand_as(outputs)
        return torch.sum(outputs * weights, dim=2)


class TopKMoE(nn.Module):
    """The two best experts of each token, found by masking (no loop over data)."""

    def __init__(self, dim=10, n_experts=5, k=2):
        super().__init__()
        self.router = nn.Linear(dim, n_experts, bias=False)
        self.w1 = nn.Parameter(torch.randn(n_experts, dim, 12) * 0.2)
        self.w2 = nn.Parameter(torch.randn(n_experts, 12, dim) * 0.2)
        self.k = k

    def forward(self, x):
        logits = self.router(x)
        top, index = torch.topk(logits, self.k, dim=-1)
        gates = torch.zeros_like(logits).scatter(-1, index, F.softmax(top, dim=-1))
        h = F.gelu(torch.einsum("btd,edh->bteh", x, self.w1))
        y = torch.einsum("bteh,ehd->bted", h, self.w2)
        return torch.einsum("bted,bte->btd", y, gates)


MODELS = {
    "nanogpt": lambda: make_gpt(False),
    "nanogpt_flash": lambda: make_gpt(True, bias=False),
    "wgan_generator": lambda: (Generator(), torch.randn(3, 10)),
    "wgan_critic": lambda: (Critic(), torch.randn(3, 3, 32, 32)),
    "vae": lambda: (VAE(), (torch.randn(3, 6, 10), torch.randn(3, 7))),
    "pointnet": lambda: (PointNet(), torch.randn(3, 3, 17)),
    "textcnn": lambda: (TextCNN(), torch.randint(1, 50, (3, 11))),
    "textcnn2d": lambda: (TextCNN2d(), torch.randint(1, 50, (3, 11))),
    "bilstm_tagger": lambda: (BiLSTMTagger(), torch.randint(1, 50, (3, 11))),
    "seq2seq": lambda: (Seq2Seq(), (torch.randint(0, 30, (3, 7)), torch.randint(0, 30, (3, 4)))),
    "siamese": lambda: (Siamese(), (torch.randn(3, 1, 20, 20), torch.randn(3, 1, 20, 20))),
    "two_tower": lambda: (TwoTower(), (torch.randint(0, 40, (6,)), torch.randint(0, 30, (6,)))),
    "deeplab": lambda: (DeepLab(), torch.randn(2, 3, 33, 47)),
    "yolo": lambda: (Yolo(), torch.randn(2, 3, 32, 48)),
    "tcn": lambda: (TCN(), torch.randn(3, 3, 19)),
    "wavenet": lambda: (WaveNet(), torch.randn(3, 1, 23)),
    "moe": lambda: (MoE(), torch.randn(3, 7, 10)),
    "topk_moe": lambda: (TopKMoE(), torch.randn(3, 7, 10)),
    **MORE,
}
