# ruff: noqa: E501 -- tables: one concept, one row
"""Word tables of the mini world (data only).

Every concept has one row; every language one column. A cell lists the inflected forms the grammar needs, separated by
commas; a second way of saying the same thing stands after a semicolon. Where a form has several words, every word but
the last carries its own tag (``satın|ADV alıyor``). Forms are listed, never computed, so that each can be checked by a
reader of the language.

Column order everywhere: en, de, es, ru, hi, tr, zh, sw.
"""

from __future__ import annotations

LANGUAGES = ("en", "de", "es", "ru", "hi", "tr", "zh", "sw")

# id | gender | Latin spelling | ru nominative, accusative, dative | hi | tr accusative, dative | zh
PEOPLE = """
anna | f | Anna | Анна, Анну, Анне | अन्ना | Anna'yı, Anna'ya | 安娜
maria | f | Maria | Мария, Марию, Марии | मारिया | Maria'yı, Maria'ya | 玛丽亚
sara | f | Sara | Сара, Сару, Саре | सारा | Sara'yı, Sara'ya | 萨拉
lina | f | Lina | Лина, Лину, Лине | लीना | Lina'yı, Lina'ya | 莉娜
nina | f | Nina | Нина, Нину, Нине | नीना | Nina'yı, Nina'ya | 妮娜
vera | f | Vera | Вера, Веру, Вере | वेरा | Vera'yı, Vera'ya | 薇拉
eva | f | Eva | Ева, Еву, Еве | ईवा | Eva'yı, Eva'ya | 伊娃
julia | f | Julia | Юлия, Юлию, Юлии | जूलिया | Julia'yı, Julia'ya | 朱莉娅
emma | f | Emma | Эмма, Эмму, Эмме | एम्मा | Emma'yı, Emma'ya | 艾玛
olga | f | Olga | Ольга, Ольгу, Ольге | ओल्गा | Olga'yı, Olga'ya | 奥尔加
laura | f | Laura | Лаура, Лауру, Лауре | लौरा | Laura'yı, Laura'ya | 劳拉
dina | f | Dina | Дина, Дину, Дине | दीना | Dina'yı, Dina'ya | 迪娜
peter | m | Peter | Питер, Питера, Питеру | पीटर | Peter'i, Peter'e | 彼得
ivan | m | Ivan | Иван, Ивана, Ивану | इवान | Ivan'ı, Ivan'a | 伊万
omar | m | Omar | Омар, Омара, Омару | ओमर | Omar'ı, Omar'a | 奥马尔
adam | m | Adam | Адам, Адама, Адаму | एडम | Adam'ı, Adam'a | 亚当
tom | m | Tom | Том, Тома, Тому | टॉम | Tom'u, Tom'a | 汤姆
max | m | Max | Макс, Макса, Максу | मैक्स | Max'ı, Max'a | 马克斯
viktor | m | Viktor | Виктор, Виктора, Виктору | विक्टर | Viktor'u, Viktor'a | 维克托
daniel | m | Daniel | Даниэль, Даниэля, Даниэлю | डेनियल | Daniel'i, Daniel'e | 丹尼尔
martin | m | Martin | Мартин, Мартина, Мартину | मार्टिन | Martin'i, Martin'e | 马丁
robert | m | Robert | Роберт, Роберта, Роберту | रॉबर्ट | Robert'i, Robert'e | 罗伯特
anton | m | Anton | Антон, Антона, Антону | एंटोन | Anton'u, Anton'a | 安东
karim | m | Karim | Карим, Карима, Кариму | करीम | Karim'i, Karim'e | 卡里姆
"""

# ru accusative, prepositional; tr locative, dative
CITIES = """
paris | Paris | Paris | París | Париж, Париже | पेरिस | Paris'te, Paris'e | 巴黎 | Paris
london | London | London | Londres | Лондон, Лондоне | लंदन | Londra'da, Londra'ya | 伦敦 | London
berlin | Berlin | Berlin | Berlín | Берлин, Берлине | बर्लिन | Berlin'de, Berlin'e | 柏林 | Berlin
madrid | Madrid | Madrid | Madrid | Мадрид, Мадриде | मैड्रिड | Madrid'de, Madrid'e | 马德里 | Madrid
moscow | Moscow | Moskau | Moscú | Москву, Москве | मॉस्को | Moskova'da, Moskova'ya | 莫斯科 | Moscow
rome | Rome | Rom | Roma | Рим, Риме | रोम | Roma'da, Roma'ya | 罗马 | Roma
delhi | Delhi | Delhi | Delhi | Дели, Дели | दिल्ली | Delhi'de, Delhi'ye | 德里 | Delhi
beijing | Beijing | Peking | Pekín | Пекин, Пекине | बीजिंग | Pekin'de, Pekin'e | 北京 | Beijing
nairobi | Nairobi | Nairobi | Nairobi | Найроби, Найроби | नैरोबी | Nairobi'de, Nairobi'ye | 内罗毕 | Nairobi
vienna | Vienna | Wien | Viena | Вену, Вене | वियना | Viyana'da, Viyana'ya | 维也纳 | Vienna
tokyo | Tokyo | Tokio | Tokio | Токио, Токио | टोक्यो | Tokyo'da, Tokyo'ya | 东京 | Tokyo
newyork | New York | New York | Nueva York | Нью-Йорк, Нью-Йорке | न्यू यॉर्क | New York'ta, New York'a | 纽约 | New York
"""

# en preposition, noun; de at-words, to-words, noun; es article, noun; ru at, to (with preposition);
# hi oblique noun, postposition; tr locative, dative; zh noun; sw locative
PLACES = """
garden | in, garden | im, in den, Garten | el, jardín | в саду, в сад | बग़ीचे, में | bahçede, bahçeye | 花园 | bustanini
kitchen | in, kitchen | in der, in die, Küche | la, cocina | на кухне, на кухню | रसोई, में | mutfakta, mutfağa | 厨房 | jikoni
school | in, school | in der, in die, Schule | la, escuela | в школе, в школу | स्कूल, में | okulda, okula | 学校 | shuleni
market | at, market | auf dem, auf den, Markt | el, mercado | на рынке, на рынок | बाज़ार, में | pazarda, pazara | 市场 | sokoni
hospital | in, hospital | im, ins, Krankenhaus | el, hospital | в больнице, в больницу | अस्पताल, में | hastanede, hastaneye | 医院 | hospitalini
forest | in, forest | im, in den, Wald | el, bosque | в лесу, в лес | जंगल, में | ormanda, ormana | 森林 | msituni
library | in, library | in der, in die, Bibliothek | la, biblioteca | в библиотеке, в библиотеку | पुस्तकालय, में | kütüphanede, kütüphaneye | 图书馆 | maktabani
station | at, station | am, zum, Bahnhof | la, estación | на вокзале, на вокзал | स्टेशन, पर | istasyonda, istasyona | 车站 | kituoni
village | in, village | im, ins, Dorf | el, pueblo | в деревне, в деревню | गाँव, में | köyde, köye | 村子 | kijijini
hotel | in, hotel | im, ins, Hotel | el, hotel | в гостинице, в гостиницу | होटल, में | otelde, otele | 酒店 | hotelini
office | in, office | im, ins, Büro | la, oficina | в офисе, в офис | दफ़्तर, में | ofiste, ofise | 办公室 | ofisini
bank | in, bank | in der, in die, Bank | el, banco | в банке, в банк | बैंक, में | bankada, bankaya | 银行 | benkini
house | in, house | im, ins, Haus | la, casa | в доме, в дом | घर, में | evde, eve | 房子 | nyumbani
factory | in, factory | in der, in die, Fabrik | la, fábrica | на фабрике, на фабрику | कारख़ाने, में | fabrikada, fabrikaya | 工厂 | kiwandani
"""

# each cell: words before, the time word itself, words after (empty parts allowed)
TIMES = """
monday | on, Monday, | am, Montag, | el, lunes, | в, понедельник, | , सोमवार, को | , pazartesi, günü | , 星期一, | , Jumatatu,
tuesday | on, Tuesday, | am, Dienstag, | el, martes, | во, вторник, | , मंगलवार, को | , salı, günü | , 星期二, | , Jumanne,
wednesday | on, Wednesday, | am, Mittwoch, | el, miércoles, | в, среду, | , बुधवार, को | , çarşamba, günü | , 星期三, | , Jumatano,
thursday | on, Thursday, | am, Donnerstag, | el, jueves, | в, четверг, | , गुरुवार, को | , perşembe, günü | , 星期四, | , Alhamisi,
friday | on, Friday, | am, Freitag, | el, viernes, | в, пятницу, | , शुक्रवार, को | , cuma, günü | , 星期五, | , Ijumaa,
saturday | on, Saturday, | am, Samstag, | el, sábado, | в, субботу, | , शनिवार, को | , cumartesi, günü | , 星期六, | , Jumamosi,
sunday | on, Sunday, | am, Sonntag, | el, domingo, | в, воскресенье, | , रविवार, को | , pazar, günü | , 星期日, | , Jumapili,
morning | in the, morning, | am, Morgen, | por la, mañana, | , утром, | , सुबह, | , sabah, | , 早上, | , asubuhi,
noon | at, noon, | am, Mittag, | al, mediodía, | в, полдень, | , दोपहर, को | , öğlen, | , 中午, | , adhuhuri,
night | at, night, | in der, Nacht, | por la, noche, | , ночью, | , रात, को | , gece, | , 夜里, | , usiku,
summer | in, summer, | im, Sommer, | en, verano, | , летом, | , गर्मियों, में | , yazın, | , 夏天, | wakati wa, kiangazi,
winter | in, winter, | im, Winter, | en, invierno, | , зимой, | , सर्दियों, में | , kışın, | , 冬天, | wakati wa, kipupwe,
today | , today, | , heute, | , hoy, | , сегодня, | , आज, | , bugün, | , 今天, | , leo,
"""

# en; de gender, noun; es article, noun; ru gender, nominative, accusative; hi gender, noun;
# tr nominative, accusative; zh; sw class (3 also serves class 11), noun
THINGS = """
book | book | n, Buch | el, libro | f, книга, книгу | f, किताब | kitap, kitabı | 书 | 7, kitabu
apple | apple | m, Apfel | la, manzana | n, яблоко, яблоко | m, सेब | elma, elmayı | 苹果 | 5, tufaha
bread | bread | n, Brot | el, pan | m, хлеб, хлеб | f, रोटी | ekmek, ekmeği | 面包 | 3, mkate
letter | letter | m, Brief | la, carta | n, письмо, письмо | f, चिट्ठी | mektup, mektubu | 信 | 9, barua
car | car | n, Auto | el, coche | f, машина, машину | f, गाड़ी | araba, arabayı | 汽车 | 5, gari
chair | chair | m, Stuhl | la, silla | m, стул, стул | f, कुर्सी | sandalye, sandalyeyi | 椅子 | 7, kiti
table | table | m, Tisch | la, mesa | m, стол, стол | f, मेज़ | masa, masayı | 桌子 | 9, meza
cup | cup | f, Tasse | la, taza | f, чашка, чашку | m, प्याला | fincan, fincanı | 杯子 | 7, kikombe
knife | knife | n, Messer | el, cuchillo | m, нож, нож | m, चाकू | bıçak, bıçağı | 刀 | 7, kisu
key | key | m, Schlüssel | la, llave | m, ключ, ключ | f, चाबी | anahtar, anahtarı | 钥匙 | 3, ufunguo
hat | hat | m, Hut | el, sombrero | f, шляпа, шляпу | f, टोपी | şapka, şapkayı | 帽子 | 9, kofia
shirt | shirt | n, Hemd | la, camisa | f, рубашка, рубашку | f, कमीज़ | gömlek, gömleği | 衬衫 | 5, shati
bag | bag | f, Tasche | la, bolsa | f, сумка, сумку | m, थैला | çanta, çantayı | 包 | 3, mfuko
lamp | lamp | f, Lampe | la, lámpara | f, лампа, лампу | m, लैंप | lamba, lambayı | 灯 | 9, taa
boat | boat | n, Boot | el, barco | f, лодка, лодку | f, नाव | tekne, tekneyi | 船 | 9, mashua
flower | flower | f, Blume | la, flor | m, цветок, цветок | m, फूल | çiçek, çiçeği | 花 | 5, ua
picture | picture | n, Bild | el, cuadro | f, картина, картину | f, तस्वीर | resim, resmi | 画 | 9, picha
bicycle | bicycle | n, Fahrrad | la, bicicleta | m, велосипед, велосипед | f, साइकिल | bisiklet, bisikleti | 自行车 | 9, baiskeli
phone | phone | n, Telefon | el, teléfono | m, телефон, телефон | m, फ़ोन | telefon, telefonu | 电话 | 9, simu
box | box | f, Kiste | la, caja | f, коробка, коробку | m, डिब्बा | kutu, kutuyu | 盒子 | 5, sanduku
ball | ball | m, Ball | la, pelota | m, мяч, мяч | f, गेंद | top, topu | 球 | 3, mpira
mirror | mirror | m, Spiegel | el, espejo | n, зеркало, зеркало | m, शीशा | ayna, aynayı | 镜子 | 7, kioo
spoon | spoon | m, Löffel | la, cuchara | f, ложка, ложку | m, चम्मच | kaşık, kaşığı | 勺子 | 7, kijiko
bed | bed | n, Bett | la, cama | f, кровать, кровать | m, पलंग | yatak, yatağı | 床 | 7, kitanda
"""

# same cells as THINGS; animals are subjects only (Swahili gives them the agreement of people, written as class 3)
ANIMALS = """
dog | dog | m, Hund | el, perro | f, собака, собаку | m, कुत्ता | köpek, köpeği | 狗 | 3, mbwa
cat | cat | f, Katze | el, gato | f, кошка, кошку | f, बिल्ली | kedi, kediyi | 猫 | 3, paka
horse | horse | n, Pferd | el, caballo | f, лошадь, лошадь | m, घोड़ा | at, atı | 马 | 3, farasi
cow | cow | f, Kuh | la, vaca | f, корова, корову | f, गाय | inek, ineği | 牛 | 3, ng'ombe
bird | bird | m, Vogel | el, pájaro | f, птица, птицу | f, चिड़िया | kuş, kuşu | 鸟 | 3, ndege
goat | goat | f, Ziege | la, cabra | f, коза, козу | f, बकरी | keçi, keçiyi | 山羊 | 3, mbuzi
lion | lion | m, Löwe | el, león | m, лев, льва | m, शेर | aslan, aslanı | 狮子 | 3, simba
fish | fish | m, Fisch | el, pez | f, рыба, рыбу | f, मछली | balık, balığı | 鱼 | 3, samaki
"""

# en; de; es verb, masculine, feminine; ru m, f, n; hi m, f; tr; zh after "is", after "is not"; sw class 3, 5, 7, 9
LOOKS = """
big | big; large | groß | es, grande, grande | большой, большая, большое | बड़ा, बड़ी | büyük | 很|ADV 大, 不|PART 大 | mkubwa, kubwa, kikubwa, kubwa
small | small; little | klein | es, pequeño, pequeña | маленький, маленькая, маленькое | छोटा, छोटी | küçük | 很|ADV 小, 不|PART 小 | mdogo, dogo, kidogo, ndogo
clean | clean | sauber | está, limpio, limpia | чистый, чистая, чистое | साफ़, साफ़ | temiz | 很|ADV 干净, 不|PART 干净 | safi, safi, safi, safi
dirty | dirty | schmutzig | está, sucio, sucia | грязный, грязная, грязное | गंदा, गंदी | kirli | 很|ADV 脏, 不|PART 脏 | mchafu, chafu, kichafu, chafu
expensive | expensive | teuer | es, caro, cara | дорогой, дорогая, дорогое | महँगा, महँगी | pahalı | 很|ADV 贵, 不|PART 贵 | ghali, ghali, ghali, ghali
cheap | cheap | billig | es, barato, barata | дешёвый, дешёвая, дешёвое | सस्ता, सस्ती | ucuz | 很|ADV 便宜, 不|PART 便宜 | rahisi, rahisi, rahisi, rahisi
red | red | rot | es, rojo, roja | красный, красная, красное | लाल, लाल | kırmızı | 是|AUX 红色 的|PART, 不是|AUX 红色 的|PART | mwekundu, jekundu, chekundu, nyekundu
white | white | weiß | es, blanco, blanca | белый, белая, белое | सफ़ेद, सफ़ेद | beyaz | 是|AUX 白色 的|PART, 不是|AUX 白色 的|PART | mweupe, jeupe, cheupe, nyeupe
black | black | schwarz | es, negro, negra | чёрный, чёрная, чёрное | काला, काली | siyah | 是|AUX 黑色 的|PART, 不是|AUX 黑色 的|PART | mweusi, jeusi, cheusi, nyeusi
beautiful | beautiful; pretty | schön; hübsch | es, bonito, bonita; es, lindo, linda | красивый, красивая, красивое | सुंदर, सुंदर | güzel | 很|ADV 漂亮, 不|PART 漂亮; 很|ADV 好看, 不|PART 好看 | mzuri, zuri, kizuri, nzuri
heavy | heavy | schwer | es, pesado, pesada | тяжёлый, тяжёлая, тяжёлое | भारी, भारी | ağır | 很|ADV 重, 不|PART 重 | mzito, zito, kizito, nzito
"""

# en with article; de m, f; es m, f; ru m, f; hi m, f; tr; zh; sw
JOBS = """
doctor | a doctor | Arzt, Ärztin | médico, médica | врач, врач | डॉक्टर, डॉक्टर | doktor | 医生 | daktari
teacher | a teacher | Lehrer, Lehrerin | maestro, maestra | учитель, учительница | शिक्षक, शिक्षिका | öğretmen | 老师 | mwalimu
farmer | a farmer | Bauer, Bäuerin | agricultor, agricultora | фермер, фермер | किसान, किसान | çiftçi | 农民 | mkulima
cook | a cook | Koch, Köchin | cocinero, cocinera | повар, повар | रसोइया, रसोइया | aşçı | 厨师 | mpishi
driver | a driver | Fahrer, Fahrerin | conductor, conductora | водитель, водитель | ड्राइवर, ड्राइवर | şoför | 司机 | dereva
singer | a singer | Sänger, Sängerin | cantante, cantante | певец, певица | गायक, गायिका | şarkıcı | 歌手 | mwimbaji
student | a student | Student, Studentin | estudiante, estudiante | студент, студентка | छात्र, छात्रा | öğrenci | 学生 | mwanafunzi
engineer | an engineer | Ingenieur, Ingenieurin | ingeniero, ingeniera | инженер, инженер | इंजीनियर, इंजीनियर | mühendis | 工程师 | mhandisi
writer | a writer | Schriftsteller, Schriftstellerin | escritor, escritora | писатель, писательница | लेखक, लेखिका | yazar | 作家 | mwandishi
lawyer | a lawyer | Anwalt, Anwältin | abogado, abogada | юрист, юрист | वकील, वकील | avukat | 律师 | wakili
painter | a painter | Maler, Malerin | pintor, pintora | художник, художница | चित्रकार, चित्रकार | ressam | 画家 | mchoraji
"""

# en; de; es m, f (with está); ru m, f; hi m, f; tr; zh positive, negative; sw positive, negative
MOODS = """
happy | happy; glad | glücklich; froh | feliz, feliz | счастлив, счастлива | ख़ुश, ख़ुश | mutlu | 很|ADV 开心, 不|PART 开心; 很|ADV 高兴, 不|PART 高兴 | ana|VERB furaha|NOUN, hana|VERB furaha|NOUN
sad | sad; unhappy | traurig; betrübt | triste, triste | печален, печальна | उदास, उदास | üzgün | 很|ADV 难过, 不|PART 难过; 很|ADV 伤心, 不|PART 伤心 | ana|VERB huzuni|NOUN, hana|VERB huzuni|NOUN
tired | tired | müde | cansado, cansada | уставший, уставшая | थका, थकी | yorgun | 很|ADV 累, 不|PART 累 | amechoka|VERB, hajachoka|VERB
hungry | hungry | hungrig | hambriento, hambrienta | голоден, голодна | भूखा, भूखी | aç | 很|ADV 饿, 不|PART 饿 | ana|VERB njaa|NOUN, hana|VERB njaa|NOUN
ill | ill; sick | krank | enfermo, enferma | болен, больна | बीमार, बीमार | hasta | 生病|VERB 了|PART, 没有|PART 生病|VERB | ni|AUX mgonjwa|ADJ, si|AUX mgonjwa|ADJ
healthy | healthy; well | gesund | sano, sana | здоров, здорова | स्वस्थ, स्वस्थ | sağlıklı | 很|ADV 健康, 不|PART 健康 | ni|AUX mzima|ADJ, si|AUX mzima|ADJ
angry | angry; furious | wütend; zornig | enojado, enojada; enfadado, enfadada | сердит, сердита | नाराज़, नाराज़ | kızgın | 很|ADV 生气, 不|PART 生气 | ana|VERB hasira|NOUN, hana|VERB hasira|NOUN
busy | busy | beschäftigt | ocupado, ocupada | занят, занята | व्यस्त, व्यस्त | meşgul | 很|ADV 忙, 不|PART 忙 | ana|VERB shughuli|NOUN, hana|VERB shughuli|NOUN
"""

# somebody does something to a thing: en third person, base; de; es; ru; hi m, f; tr positive, negative;
# zh positive, negative; sw positive, negative
ACTS = """
buy | buys, buy; purchases, purchase | kauft; erwirbt | compra; adquiere | покупает; приобретает | ख़रीदता, ख़रीदती | satın|ADV alıyor, satın|ADV almıyor | 买, 不|PART 买; 购买, 不|PART 购买 | ananunua, hanunui
sell | sells, sell | verkauft; veräußert | vende | продаёт | बेचता, बेचती | satıyor, satmıyor | 卖, 不|PART 卖; 出售, 不|PART 出售 | anauza, hauzi
wash | washes, wash | wäscht | lava | моет | धोता, धोती | yıkıyor, yıkamıyor | 洗, 不|PART 洗 | anaosha, haoshi
see | sees, see | sieht; erblickt | ve | видит | देखता, देखती | görüyor, görmüyor | 看见, 看不见 | anaona, haoni
seek | seeks, seek | sucht | busca | ищет; разыскивает | ढूँढता, ढूँढती; खोजता, खोजती | arıyor, aramıyor | 找, 不|PART 找; 寻找, 不|PART 寻找 | anatafuta, hatafuti
hide | hides, hide; conceals, conceal | versteckt; verbirgt | esconde; oculta | прячет; скрывает | छिपाता, छिपाती | saklıyor, saklamıyor; gizliyor, gizlemiyor | 藏, 不|PART 藏; 隐藏, 不|PART 隐藏 | anaficha, hafichi
bring | brings, bring | bringt | trae | приносит | लाता, लाती | getiriyor, getirmiyor | 带来, 不|PART 带来 | analeta, haleti
take | takes, take | nimmt | toma; coge | берёт | लेता, लेती | alıyor, almıyor | 拿, 不|PART 拿 | anachukua, hachukui
carry | carries, carry | trägt | lleva; carga | несёт | उठाता, उठाती | taşıyor, taşımıyor | 搬, 不|PART 搬 | anabeba, habebi
choose | chooses, choose; selects, select | wählt | elige; escoge | выбирает | चुनता, चुनती | seçiyor, seçmiyor | 选, 不|PART 选; 选择, 不|PART 选择 | anachagua, hachagui
break | breaks, break | zerbricht | rompe | ломает | तोड़ता, तोड़ती | kırıyor, kırmıyor | 弄坏, 不|PART 弄坏 | anavunja, havunji
want | wants, want; desires, desire | will; möchte | quiere; desea | хочет; желает | चाहता, चाहती | istiyor, istemiyor | 想要, 不|PART 想要 | anataka, hataki
"""

# somebody and another person: as ACTS; en and de may add a preposition after a colon; de case of the wh-word; es
# preposition; ru case; hi postposition; tr case
MEETINGS = """
love | loves, love | liebt : : wen | ama : a; quiere : a | любит : acc | प्यार|NOUN करता, प्यार|NOUN करती : से | seviyor, sevmiyor : acc | 爱, 不|PART 爱 | anampenda, hampendi
know | knows, know | kennt : : wen | conoce : a | знает : acc | जानता, जानती : को | tanıyor, tanımıyor : acc | 认识, 不|PART 认识 | anamjua, hamjui
help | helps, help; assists, assist | hilft : : wem | ayuda : a | помогает : dat | मदद|NOUN करता, मदद|NOUN करती : की | yardım|NOUN ediyor, yardım|NOUN etmiyor : dat | 帮助, 不|PART 帮助; 帮, 不|PART 帮 | anamsaidia, hamsaidii
wait | waits, wait : for | wartet : auf : wen | espera : a; aguarda : a | ждёт : acc; ожидает : acc | इंतज़ार|NOUN करता, इंतज़ार|NOUN करती : का | bekliyor, beklemiyor : acc | 等, 不|PART 等; 等待, 不|PART 等待 | anamsubiri, hamsubiri; anamngoja, hamngoji
hear | hears, hear | hört : : wen | oye : a | слышит : acc | सुनता, सुनती : को | duyuyor, duymuyor : acc | 听见, 听不见 | anamsikia, hamsikii
greet | greets, greet | grüßt : : wen; begrüßt : : wen | saluda : a | приветствует : acc | नमस्ते|NOUN करता, नमस्ते|NOUN करती : को | selamlıyor, selamlamıyor : acc | 问候, 不|PART 问候 | anamsalimia, hamsalimii
thank | thanks, thank | dankt : : wem | agradece : a | благодарит : acc | धन्यवाद|NOUN देता, धन्यवाद|NOUN देती : को | teşekkür|NOUN ediyor, teşekkür|NOUN etmiyor : dat | 感谢, 不|PART 感谢 | anamshukuru, hamshukuru
trust | trusts, trust | vertraut : : wem | confía : en | доверяет : dat; верит : dat | भरोसा|NOUN करता, भरोसा|NOUN करती : पर | güveniyor, güvenmiyor : dat; inanıyor, inanmıyor : dat | 信任, 不|PART 信任; 相信, 不|PART 相信 | anamwamini, hamwamini
see | sees, see | sieht : : wen; erblickt : : wen | ve : a | видит : acc | देखता, देखती : को | görüyor, görmüyor : acc | 看见, 看不见 | anamwona, hamwoni
teach | teaches, teach | unterrichtet : : wen | enseña : a | учит : acc | पढ़ाता, पढ़ाती : को | eğitiyor, eğitmiyor : acc | 教, 不|PART 教 | anamfundisha, hamfundishi
seek | seeks, seek | sucht : : wen | busca : a | ищет : acc; разыскивает : acc | ढूँढता, ढूँढती : को; खोजता, खोजती : को | arıyor, aramıyor : acc | 找, 不|PART 找; 寻找, 不|PART 寻找 | anamtafuta, hamtafuti
"""

# somebody hands a thing to another person: as ACTS; hi postposition of the receiver; zh verb between 把-object and 给
GIVINGS = """
give | gives, give | gibt | da | даёт | देता, देती : को | veriyor, vermiyor | - | anampa, hampi
show | shows, show | zeigt | muestra; enseña | показывает | दिखाता, दिखाती : को | gösteriyor, göstermiyor | 展示 | anamwonyesha, hamwonyeshi
send | sends, send | schickt; sendet | envía; manda | посылает; отправляет | भेजता, भेजती : को | gönderiyor, göndermiyor; yolluyor, yollamıyor | 寄 | anamtumia, hamtumii
sell | sells, sell | verkauft | vende | продаёт | बेचता, बेचती : को | satıyor, satmıyor | 卖 | anamuuzia, hamuuzii
bring | brings, bring | bringt | trae | приносит | लाता, लाती : के लिए | getiriyor, getirmiyor | 带 | anamletea, hamletei
lend | lends, lend | leiht | presta | одалживает | उधार|NOUN देता, उधार|NOUN देती : को | ödünç|NOUN veriyor, ödünç|NOUN vermiyor | 借 | anamkopesha, hamkopeshi
"""

# values that cannot hold of one subject at the same time
EXCLUSIVE = {
    "look": (("big", "small"), ("clean", "dirty"), ("expensive", "cheap"), ("red", "white", "black")),
    "mood": (("happy", "sad"), ("ill", "healthy")),
}
